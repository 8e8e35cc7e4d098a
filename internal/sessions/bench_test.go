package sessions_test

import "testing"

// BenchmarkOpen is all that a login asks of the registry once the password was compared.
func BenchmarkOpen(b *testing.B) {
	store, pool := open(b)
	proven := enter(b, pool)
	for b.Loop() {
		if _, _, err := store.Open(b.Context(), proven); err != nil {
			b.Fatal(err)
		}
	}
}
