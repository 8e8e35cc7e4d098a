package phone_test

import (
	"testing"

	"narthex/internal/phone"
)

func TestPhones(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"+1 (555) 010-0123": "+15550100123", "+49.30/123 456": "+4930123456", "+15550100123": "+15550100123",
		"555 0100": "", "0049 30 123456": "", "+0155501": "", "+1 555 CHURCH": "", "+1234567890123456": "", "": "", "+15550100123\n": "",
	} {
		got := phone.Normalise(given)
		switch problem := phone.Check(got); {
		case want == "" && problem == "":
			t.Errorf("%q is accepted as %q, want it refused", given, got)
		case want != "" && (problem != "" || got != want):
			t.Errorf("%q becomes %q (%s), want %q", given, got, problem, want)
		}
	}
}
