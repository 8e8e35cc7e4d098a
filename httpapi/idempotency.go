package httpapi

import "github.com/gin-gonic/gin"

const maxIdempotencyKey = 255 // characters

// idempotencyKey reads the request's Idempotency-Key, if it has one. Errors: errKeySyntax.
func idempotencyKey(c *gin.Context) (key string, given bool, err error) {
	values := c.Request.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", false, nil
	}
	if len(values) > 1 || !validIdempotencyKey(values[0]) {
		return "", false, errKeySyntax
	}
	return values[0], true, nil
}

func validIdempotencyKey(key string) bool {
	if len(key) == 0 || len(key) > maxIdempotencyKey {
		return false
	}
	for _, b := range []byte(key) {
		if b < 0x21 || b > 0x7e {
			return false
		}
	}
	return true
}
