package signup

import (
	"encoding/base64"
	"strings"

	"narthex/internal/runs"
	"narthex/internal/secrets"
)

// A signup's public id is its sealed workflow and run ids. Only processes with the keys can read it, and nobody
// else can make one up.
var publicIDPlace = secrets.Place{Table: "signup", Column: "public_id"}

// PublicID returns the id under which the API exposes a run.
func PublicID(keys *secrets.Keys, run runs.Run) (string, error) {
	sealed, err := keys.Seal([]byte(run.WorkflowID+"\x00"+run.RunID), publicIDPlace)
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

// OpenPublicID returns the run of a public id, and whether the id is valid.
func OpenPublicID(keys *secrets.Keys, id string) (run runs.Run, ok bool) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil {
		return runs.Run{}, false
	}
	plain, err := keys.Open(sealed, publicIDPlace)
	if err != nil {
		return runs.Run{}, false
	}
	run.WorkflowID, run.RunID, ok = strings.Cut(string(plain), "\x00")
	return run, ok
}
