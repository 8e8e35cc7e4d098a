package config

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"

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
	return map[string]string{"SEAL_KEYSET": seal, "INDEX_KEYSET": index, "TOKEN_KEY": token, "CODEC_TOKEN": rand.Text() + rand.Text()}, nil
}

// Stage is a step in the replacement of a key.
type Stage string

// Add adds a fresh key, Promote makes the newest key the primary, and Retire removes all but the primary.
// Replace adds and promotes at once.
const (
	StageReplace Stage = "replace"
	StageAdd     Stage = "add"
	StagePromote Stage = "promote"
	StageRetire  Stage = "retire"
)

// Stages returns all stages.
func Stages() []string {
	return []string{string(StageReplace), string(StageAdd), string(StagePromote), string(StageRetire)}
}

// KeyVariables returns the variables whose keys can be rotated.
func KeyVariables() []string { return slices.Sorted(maps.Keys(rotations)) }

type rotation struct{ add, promote, retire func(string) (string, error) }

var rotations = map[string]rotation{
	"SEAL_KEYSET":  {secrets.AddSealKey, secrets.PromoteKey, secrets.RetireKeys},
	"INDEX_KEYSET": {secrets.AddIndexKey, secrets.PromoteKey, secrets.RetireKeys},
	"TOKEN_KEY":    {tokens.AddKey, tokens.PromoteKey, tokens.RetireKeys},
}

// RotateKeys takes the named variables, by default all that hold keys, one stage further and returns them. Its
// error is one sentence and contains no key.
func RotateKeys(variables map[string]string, stage Stage, names []string) (map[string]string, error) {
	if len(names) == 0 {
		for name := range rotations {
			if variables[name] != "" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
	}
	if len(names) == 0 {
		return nil, errors.New("no keys to rotate: set SEAL_KEYSET, INDEX_KEYSET or TOKEN_KEY, or name them in --env-file")
	}
	rotated := map[string]string{}
	for _, name := range names {
		r, known := rotations[name]
		switch {
		case !known:
			return nil, fmt.Errorf("%s has no keys: only SEAL_KEYSET, INDEX_KEYSET and TOKEN_KEY have", name)
		case variables[name] == "":
			return nil, fmt.Errorf("%s is not set", name)
		}
		value, err := r.run(stage, variables[name])
		if err != nil {
			return nil, fmt.Errorf("%s %w", name, err)
		}
		rotated[name] = value
	}
	return rotated, nil
}

func (r rotation) run(stage Stage, value string) (string, error) {
	switch stage {
	case StageAdd:
		return r.add(value)
	case StagePromote:
		return r.promote(value)
	case StageRetire:
		return r.retire(value)
	case StageReplace:
		added, err := r.add(value)
		if err != nil {
			return "", err
		}
		return r.promote(added)
	}
	return "", fmt.Errorf("there is no stage %s: use replace, add, promote or retire", stage)
}
