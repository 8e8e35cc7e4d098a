package devstack

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/dotenv"

	"narthex/internal/secrets"
	"narthex/internal/tokens"
)

const keysFile = "keys.env"

// Keys are the development stack's own keys, by the names of the variables that carry them.
type Keys map[string]string

// servicePassword is the name under which the keys hold the password of Narthex's own database role.
const servicePassword = "SERVICE_PASSWORD"

// Keys returns the folder's keys, which are made the first time.
func (f *Folder) Keys() (Keys, error) {
	keys, err := dotenv.Read(f.in(keysFile))
	if err == nil {
		return keys, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s cannot be read: mend it, or begin anew with another --data", f.in(keysFile))
	}
	if keys, err = newKeys(); err != nil {
		return nil, err
	}
	return keys, f.write(keysFile, envLines(keys))
}

func newKeys() (Keys, error) {
	seal, err := secrets.NewSealKeyset()
	if err != nil {
		return nil, err
	}
	index, err := secrets.NewIndexKeyset()
	if err != nil {
		return nil, err
	}
	token, err := tokens.NewKey()
	if err != nil {
		return nil, err
	}
	return Keys{"SEAL_KEYSET": seal, "INDEX_KEYSET": index, "TOKEN_KEY": token, servicePassword: rand.Text() + rand.Text()}, nil
}
