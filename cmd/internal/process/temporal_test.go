package process

import (
	"strings"
	"testing"
)

func TestTheFormOfTemporalsAddress(t *testing.T) {
	for address, want := range map[string]string{ // what the error says
		"localhost": "TEMPORAL_ADDRESS is not", "": "TEMPORAL_ADDRESS is not set", "http://localhost": "TEMPORAL_ADDRESS is not",
		"localhost:": "TEMPORAL_ADDRESS is not", "localhost:grpc": "TEMPORAL_ADDRESS is not", "::1:7233": "TEMPORAL_ADDRESS is not",
		"localhost:0": "TEMPORAL_ADDRESS is not", "localhost:65536": "TEMPORAL_ADDRESS is not",
		"localhost:7233": "", ":7233": "", "[::1]:7233": "", "dns:///temporal.example.org:7233": "",
	} {
		t.Setenv("TEMPORAL_ADDRESS", address)
		options, err := TemporalOptions()
		switch {
		case want == "" && (err != nil || options.HostPort != address):
			t.Errorf("TEMPORAL_ADDRESS=%s becomes %q (%v), want it", address, options.HostPort, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("TEMPORAL_ADDRESS=%s: the error is %v, want one that says %q", address, err, want)
		}
	}
}
