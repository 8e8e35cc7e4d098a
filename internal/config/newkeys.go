package config

import (
	"narthex/internal/secrets"
	"narthex/internal/tokens"
)

// NewKeys returns fresh values for the variables that hold keys.
func NewKeys() (map[string]string, error) {
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
	return map[string]string{"SEAL_KEYSET": seal, "INDEX_KEYSET": index, "TOKEN_KEY": token}, nil
}
