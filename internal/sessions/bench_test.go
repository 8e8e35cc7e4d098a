package sessions_test

import "testing"

// BenchmarkOpen measures what a login does in the registry after the password was compared.
func BenchmarkOpen(b *testing.B) {
	store, pool := open(b)
	proven := enter(b, pool)
	for b.Loop() {
		if _, _, err := store.Open(b.Context(), proven); err != nil {
			b.Fatal(err)
		}
	}
}
