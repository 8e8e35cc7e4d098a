package secrets

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

func newKeys(t *testing.T) *Keys {
	t.Helper()
	seal, err := NewSealKeyset()
	if err != nil {
		t.Fatal(err)
	}
	index, err := NewIndexKeyset()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := Parse(seal, index)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestSealedValueOpensOnlyInItsPlace(t *testing.T) {
	keys := newKeys(t)
	home := Place{Table: "tenants", Column: "database_url", Tenant: "a"}
	sealed, err := keys.Seal([]byte("secret"), home)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("secret")) {
		t.Fatal("the sealed value contains the plain one")
	}
	if plain, err := keys.Open(sealed, home); err != nil || string(plain) != "secret" {
		t.Fatalf("Open at home = %q, %v; want \"secret\"", plain, err)
	}
	for _, away := range []Place{
		{Table: "churches", Column: "database_url", Tenant: "a"},
		{Table: "tenants", Column: "email", Tenant: "a"},
		{Table: "tenants", Column: "database_url", Tenant: "b"},
	} {
		if _, err := keys.Open(sealed, away); !errors.Is(err, ErrSealed) {
			t.Errorf("Open at %+v: got %v, want ErrSealed", away, err)
		}
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := keys.Open(sealed, home); !errors.Is(err, ErrSealed) {
		t.Errorf("Open of an altered value: got %v, want ErrSealed", err)
	}
	if _, err := newKeys(t).Open(sealed, home); !errors.Is(err, ErrSealed) {
		t.Errorf("Open with other keys: got %v, want ErrSealed", err)
	}
}

func TestEmailIndexIsKeyedAndStable(t *testing.T) {
	keys := newKeys(t)
	first, _ := keys.EmailIndex("pat@example.org")
	again, _ := keys.EmailIndex("pat@example.org")
	other, _ := keys.EmailIndex("pam@example.org")
	foreign, _ := newKeys(t).EmailIndex("pat@example.org")
	if first != again {
		t.Errorf("the same email has two indexes: %s, %s", first, again)
	}
	if first == other || first == foreign {
		t.Errorf("another email or key has the same index %s", first)
	}
}

func TestParseNamesTheKeysetAtFault(t *testing.T) {
	seal, _ := NewSealKeyset()
	index, _ := NewIndexKeyset()
	for _, c := range []struct{ name, seal, index, want string }{
		{"empty seal", "", index, "seal keyset"},
		{"short seal", seal[:len(seal)/2], index, "seal keyset"},
		{"no base64", "not base64!", index, "the seal keyset is not base64"},
		{"swapped", index, seal, "the seal keyset has keys that are not AEAD keys"},
		{"index of the wrong kind", seal, seal, "the index keyset has keys that are not MAC keys"},
		{"empty index", seal, "", "index keyset"},
	} {
		_, err := Parse(c.seal, c.index)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
		if err != nil && c.seal != "" && strings.Contains(err.Error(), c.seal) {
			t.Errorf("%s: the error holds the keyset: %v", c.name, err)
		}
	}
}

// rotated returns two keysets and, for each stage of their rotation, the keys.
func rotated(t *testing.T) (stages map[string]*Keys) {
	t.Helper()
	must := func(text string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	seal, index := must(NewSealKeyset()), must(NewIndexKeyset())
	stages = map[string]*Keys{}
	keep := func(stage string) {
		t.Helper()
		keys, err := Parse(seal, index)
		if err != nil {
			t.Fatal(err)
		}
		stages[stage] = keys
	}
	keep("old")
	seal, index = must(AddSealKey(seal)), must(AddIndexKey(index))
	keep("added")
	seal, index = must(PromoteKey(seal)), must(PromoteKey(index))
	keep("promoted")
	seal, index = must(RetireKeys(seal)), must(RetireKeys(index))
	keep("retired")
	return stages
}

// At each stage of a rotation, processes of the previous and the next stage can read each other's values. Once the old key
// is retired, values that were not rewritten can't be read any more.
func TestRotation(t *testing.T) {
	stages := rotated(t)
	at := Place{Table: "t", Column: "c"}
	for _, c := range []struct {
		writer, reader string
		opens          bool
	}{
		{"old", "added", true}, {"added", "old", true},
		{"added", "promoted", true}, {"promoted", "added", true},
		{"promoted", "retired", true}, {"retired", "promoted", true},
		{"old", "retired", false}, {"promoted", "old", false},
	} {
		sealed, err := stages[c.writer].Seal([]byte("secret"), at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stages[c.reader].Open(sealed, at); (err == nil) != c.opens {
			t.Errorf("sealed by %s, opened by %s: %v, want opened %t", c.writer, c.reader, err, c.opens)
		}
		if !bytes.HasPrefix(sealed, stages[c.writer].SealPrefix()) {
			t.Errorf("what %s sealed does not begin with its prefix", c.writer)
		}
		index, _ := stages[c.writer].EmailIndex("pat@example.org")
		all, _ := stages[c.reader].EmailIndexes("pat@example.org")
		if slices.Contains(all, index) != c.opens {
			t.Errorf("indexed by %s, looked up by %s: found %t, want %t", c.writer, c.reader, !c.opens, c.opens)
		}
		if !strings.HasPrefix(index, stages[c.writer].IndexPrefix()) {
			t.Errorf("the index of %s does not begin with its prefix", c.writer)
		}
	}
	added, _ := stages["added"].EmailLock("pat@example.org")
	promoted, _ := stages["promoted"].EmailLock("pat@example.org")
	if added != promoted {
		t.Error("processes with different primaries lock the same email differently")
	}
}

func TestFingerprintsKeepPartsApart(t *testing.T) {
	keys := newKeys(t)
	first, _ := keys.Fingerprint("p", "ab", "c")
	same, _ := keys.Fingerprint("p", "ab", "c")
	if !bytes.Equal(first, same) {
		t.Error("equal parts have different fingerprints")
	}
	for _, other := range [][]string{{"p", "a", "bc"}, {"p", "abc"}, {"q", "ab", "c"}} {
		if got, _ := keys.Fingerprint(other[0], other[1:]...); bytes.Equal(got, first) {
			t.Errorf("%v has the fingerprint of [p ab c]", other)
		}
	}
}
