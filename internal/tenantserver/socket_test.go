package tenantserver_test

import (
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"narthex/internal/config"
	"narthex/internal/tenantserver"
	"narthex/migrations"
)

// socket makes a folder with a socket that forwards to the server's TCP port.
func (h *host) socket() (folder string) {
	h.t.Helper()
	folder, err := os.MkdirTemp("", "nx") // t.TempDir's path may be too long for a socket
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = os.RemoveAll(folder) })
	listener, err := net.Listen("unix", filepath.Join(folder, ".s.PGSQL.5432"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { listener.Close() })
	server, err := url.Parse(h.url)
	if err != nil {
		h.t.Fatal(err)
	}
	go func() {
		for client, err := listener.Accept(); err == nil; client, err = listener.Accept() {
			go join(client, server.Host)
		}
	}()
	return folder
}

func join(client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	_, _ = io.Copy(client, server)
}

func TestAServerBehindASocket(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	folder := h.socket()
	for name, given := range map[string]string{
		"a parameter":            "postgres://" + h.role + ":service@/postgres?host=" + folder,
		"a percent-encoded host": "postgres://" + h.role + ":service@" + url.PathEscape(folder) + "/postgres",
	} {
		var u config.DatabaseURL
		if err := u.UnmarshalText([]byte(given)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		server, err := tenantserver.Open(t.Context(), string(u), "test", migrations.Tenant)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Cleanup(server.Close)
		if got, want := server.Name(), folder+":5432"; got != want {
			t.Errorf("%s: the server's name is %s, want %s", name, got, want)
		}
		d := newDatabase()
		create(t, server, d)
		conn, err := server.Connect(t.Context(), d)
		if err != nil {
			t.Fatalf("%s: connect to the tenant's database: %v", name, err)
		}
		conn.Close(context.Background())
		drop(t, server, d)
	}
}
