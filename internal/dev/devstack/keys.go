package devstack

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"

	"github.com/compose-spec/compose-go/v2/dotenv"

	"narthex/internal/config"
)

const keysFile = "keys.env"

// Keys are the development stack's own keys, by the names of the variables that carry them.
type Keys map[string]string

// servicePassword is the name under which the keys hold the password of Narthex's own database role.
const servicePassword = "SERVICE_PASSWORD"

// Keys returns the folder's keys, and makes them the first time.
func (f *Folder) Keys() (Keys, error) {
	kept, err := dotenv.Read(f.in(keysFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s cannot be read: repair it, or start over with another --data", f.in(keysFile))
	}
	keys, err := config.NewKeys()
	if err != nil {
		return nil, err
	}
	keys[servicePassword] = rand.Text() + rand.Text()
	maps.Copy(keys, kept)
	if len(kept) == len(keys) {
		return keys, nil
	}
	return keys, f.write(keysFile, envLines(keys))
}
