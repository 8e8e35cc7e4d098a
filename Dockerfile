# The image of the production program, as docker-compose.temporal.yml builds it. It downloads only the modules that the
# program links. BUILD_ID names the release by the time and hash of its commit, because the build has no Git history.
FROM golang:1.26.8-alpine AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -o /narthex ./cmd/narthex

FROM alpine:3.22
RUN adduser -D -u 1000 narthex && apk add --no-cache postgresql17-client # workers rehearse with pg_dump and pg_restore
USER narthex
ARG BUILD_ID
ENV BUILD_ID=$BUILD_ID
COPY --from=build /narthex /usr/local/bin/narthex
ENTRYPOINT ["narthex"]
