package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"narthex/internal/codec"
	"narthex/internal/loopback"
	"narthex/internal/secrets"
)

// CodecOptions are what the codec endpoint works with. All are required.
type CodecOptions struct {
	Keys    *secrets.Keys
	Token   string   // that callers must present
	Origins []string // of the Temporal UIs that may call it, such as https://temporal.example.org

	// Loopback says that the endpoint serves only this machine. A request for another host then comes from a page
	// whose name was pointed at this machine (DNS rebinding).
	Loopback bool
}

// maxCodecBody is the largest request that the UI sends, in bytes.
const maxCodecBody = 8 << 20

var (
	errCodecToken = newUnauthorized("invalid-token", "The codec token is missing or wrong", "", "Bearer")
	errCodecHost  = newProblem(http.StatusMisdirectedRequest, "misdirected", "Wrong host", "Use 127.0.0.1 or localhost.")
	errCodecBody  = newProblem(http.StatusBadRequest, "malformed-body", "The body is not a list of payloads", "")
	errCodecKeys  = newProblem(http.StatusUnprocessableEntity, "not-readable", "A payload cannot be decrypted with this service's keys", "")
)

// NewCodec returns the endpoint through which Temporal's UI shows operators the contents of a signup's history.
// It opens payloads and seals none. A caller sends the token as a bearer token or, if the UI cannot send one,
// as the path's first element: POST /decode or /TOKEN/decode.
func NewCodec(options CodecOptions) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	h := &codecHandler{CodecOptions: options, codec: codec.New(options.Keys)}
	engine.Use(secureHeaders, h.checkHost, h.allowOrigin)
	engine.NoRoute(handle(func(*gin.Context) error { return errNoRoute }))
	engine.NoMethod(handle(func(*gin.Context) error { return errNoMethod }))
	for _, path := range []string{"/decode", "/:token/decode"} {
		engine.POST(path, handle(h.decode))
		engine.OPTIONS(path, func(c *gin.Context) { c.Status(http.StatusNoContent) })
	}
	return engine
}

type codecHandler struct {
	CodecOptions
	codec codec.Codec
}

// handle turns an error into a problem document. It logs nothing, because paths may contain the token.
func handle(handler func(*gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := handler(c); err != nil {
			sendProblem(c, problemFor(err))
		}
	}
}

func (h *codecHandler) checkHost(c *gin.Context) {
	if h.Loopback && !loopback.Names(c.Request.Host) {
		sendProblem(c, errCodecHost)
	}
}

// allowOrigin lets only pages of the UI's origins read the answers.
func (h *codecHandler) allowOrigin(c *gin.Context) {
	c.Header("Vary", "Origin")
	origin := c.GetHeader("Origin")
	if origin == "" || !slices.Contains(h.Origins, origin) {
		return
	}
	c.Header("Access-Control-Allow-Origin", origin)
	c.Header("Access-Control-Allow-Methods", "POST")
	c.Header("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Namespace")
	c.Header("Access-Control-Max-Age", "600")
}

func (h *codecHandler) authorized(c *gin.Context) bool {
	shown := c.Param("token")
	if shown == "" {
		shown = bearerToken(c)
	}
	want, got := sha256.Sum256([]byte(h.Token)), sha256.Sum256([]byte(shown))
	return subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

func (h *codecHandler) decode(c *gin.Context) error {
	if !h.authorized(c) {
		return errCodecToken
	}
	body, err := readBody(c, maxCodecBody)
	if err != nil {
		return err
	}
	var payloads commonpb.Payloads
	if err := protojson.Unmarshal(body, &payloads); err != nil {
		return errCodecBody
	}
	opened, err := h.codec.Decode(payloads.Payloads)
	if err != nil {
		return errCodecKeys
	}
	answer, err := protojson.Marshal(&commonpb.Payloads{Payloads: opened})
	if err != nil {
		return err
	}
	c.Data(http.StatusOK, "application/json", answer)
	return nil
}

// bearerToken returns the token in the Authorization header, or "".
func bearerToken(c *gin.Context) string {
	scheme, token, _ := strings.Cut(c.GetHeader("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
