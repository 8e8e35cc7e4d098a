package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"narthex/internal/dev/testenv"
	"narthex/internal/runs"
	"narthex/internal/signup"
)

func bodyContext(body []byte) *gin.Context {
	c, _ := gin.CreateTestContext(httptest.NewRecorder())
	c.Request = httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	c.Request.Header.Set("Content-Type", "application/json")
	return c
}

// FuzzRegisterBody looks for a body that is neither a valid request nor refused with a 4xx problem.
func FuzzRegisterBody(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `[]`, `{}`, `{"email":1}`, `{"email":"a@example.org","email":"b@example.org"}`, `{"email":"\ud800"}`, "\xff", `{} {}`,
		`{"churchName":" Grace ","email":" PAT@Example.org ","password":"correct horse","firstName":"Pat","lastName":"Muster"}`,
		`{"churchName":"a\u0000b","email":"pat@example.org","password":"12345678","firstName":"\u202e","lastName":"\u200d"}`,
		`{"x":` + strings.Repeat("[", 10000), `{"` + strings.Repeat("x", 100) + `":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c := bodyContext(body)
		var request registerRequest
		if err := Decode(c, &request); err != nil {
			wantClientProblem(t, err)
			return
		}
		if err := request.normalise().Err(); err != nil {
			wantClientProblem(t, err)
			return
		}
		for _, text := range []string{request.ChurchName, request.Email, request.Password, request.FirstName, request.LastName} {
			if text == "" || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || strings.ContainsRune(text, utf8.RuneError) {
				t.Errorf("%q is read from %q", text, body)
			}
		}
		again := request
		if wrong := again.normalise(); len(wrong) > 0 || again != request {
			t.Errorf("normalised again, %+v becomes %+v, wrong: %v", request, again, wrong)
		}
	})
}

// wantClientProblem checks that an error is a 4xx problem and can be written as JSON.
func wantClientProblem(t *testing.T, err error) {
	t.Helper()
	p := problemFor(err)
	if p.Status < 400 || p.Status > 499 || p.Type == "" || p.Title == "" {
		t.Errorf("%v is a problem %+v, want a 4xx", err, p)
	}
	if encoded, err := json.Marshal(p); err != nil || !utf8.Valid(encoded) || len(encoded) > 8192 {
		t.Errorf("problem %+v in JSON: %d bytes, %v", p, len(encoded), err)
	}
}

// FuzzRefreshBody does the same for the body with a refresh token.
func FuzzRefreshBody(f *testing.F) {
	for _, seed := range []string{``, `{}`, `{"refreshToken":"x"}`, `{"refreshToken":"\u0000"}`, `{"refreshToken":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c := bodyContext(body)
		token, err := (&api{}).decodeRefreshToken(c)
		if err != nil {
			wantClientProblem(t, err)
		} else if token == "" || !utf8.ValidString(token) {
			t.Errorf("the token %q is read from %q", token, body)
		}
	})
}

var idempotencyKeySyntax = regexp.MustCompile(`\A[!-~]{1,255}\z`)

func FuzzIdempotencyKey(f *testing.F) {
	for _, seed := range []string{"", "a", " ", "\x7f", "ü", strings.Repeat("k", 255), strings.Repeat("k", 256), "a,b", "a\nb"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		c := bodyContext(nil)
		c.Request.Header["Idempotency-Key"] = []string{key}
		got, given, err := idempotencyKey(c)
		if want := idempotencyKeySyntax.MatchString(key); want != (err == nil) {
			t.Errorf("%q: %v, want it accepted: %t", key, err, want)
		}
		if err == nil && (got != key || !given) {
			t.Errorf("%q is read as %q", key, got)
		}
	})
}

// FuzzSignupID looks for an id that opens although it was never issued.
func FuzzSignupID(f *testing.F) {
	a := &api{Options: Options{Keys: testenv.Keys(f)}}
	id, err := signup.PublicID(a.Keys, runs.Run{WorkflowID: "workflow", RunID: "run"})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"", id, id[:len(id)-1], id + "A", id + "=", "AAAA", strings.Repeat("A", 10000), "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if run, ok := signup.OpenPublicID(a.Keys, text); ok != (text == id) {
			t.Errorf("%q opens to %v: %t", text, run, ok)
		}
	})
}

// FuzzCodec looks for a body that the codec endpoint neither opens nor refuses.
func FuzzCodec(f *testing.F) {
	handler := NewCodec(CodecOptions{Keys: testenv.Keys(f), Token: "token"})
	for _, seed := range []string{
		``, `{}`, `[]`, `{"payloads":[]}`, `{"payloads":[{}]}`,
		`{"payloads":[{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"MQ=="}]}`,
		`{"payloads":[{"metadata":{"encoding":"YmluYXJ5L2VuY3J5cHRlZA=="},"data":"AQAAAAA="}]}`,
		`{"payloads":null}`, `{"payloads":[null]}`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		request := httptest.NewRequest(http.MethodPost, "/token/decode", bytes.NewReader(body))
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		if recorder.Code != http.StatusOK && (recorder.Code < 400 || recorder.Code > 499) {
			t.Errorf("%q: status %d, want 200 or 4xx\n%s", body, recorder.Code, recorder.Body)
		}
		if !json.Valid(recorder.Body.Bytes()) {
			t.Errorf("%q is answered with %q, want JSON", body, recorder.Body)
		}
	})
}
