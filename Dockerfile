# The production program alone. Built by docker-compose.temporal.yml. Only what it links is downloaded.
# BUILD_ID names the release, by time and commit: the sources here come without their Git history.
FROM golang:1.26.8-alpine AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -o /narthex ./cmd/narthex

FROM alpine:3.22
RUN adduser -D -u 1000 narthex
USER narthex
ARG BUILD_ID
ENV BUILD_ID=$BUILD_ID
COPY --from=build /narthex /usr/local/bin/narthex
ENTRYPOINT ["narthex"]
