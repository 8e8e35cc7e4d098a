//go:build !race

package localtemporal

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/server_options"
)

// ui is the running UI.
type ui struct {
	address string
	server  *uiserver.Server
}

// startUI runs the UI, and returns when it answers. It hides Terminate, which would skip a signup's
// compensations. Operators stop a signup with Cancel.
func startUI(options Options, frontend string) (*ui, error) {
	listener, err := net.Listen("tcp", options.UIAddress)
	if err != nil {
		return nil, fmt.Errorf("the UI's address %s is taken: stop what uses it, or choose another", options.UIAddress)
	}
	address := listener.Addr().String()
	listener.Close()
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("the UI's address %s is malformed: %w", address, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("the UI's address %s is malformed: %w", address, err)
	}
	server := uiserver.NewServer(server_options.WithConfigProvider(&uiconfig.Config{
		Host: host, Port: port, EnableUI: true, HideLogs: true, DisableNewsFetch: true,
		TemporalGRPCAddress: frontend, DefaultNamespace: options.Namespace,
		Codec:                     uiconfig.Codec{Endpoint: options.CodecEndpoint},
		WorkflowTerminateDisabled: true, BatchActionsDisabled: true, // a batch could terminate too
		CORS: uiconfig.CORS{CookieInsecure: true}, // plain HTTP on the loopback interface
	}))
	go func() { _ = server.Start() }() // it ends the process if it cannot listen, and returns no other error
	u := &ui{address: address, server: server}
	for deadline := time.Now().Add(startLimit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		response, err := http.Get("http://" + address + "/healthz")
		if err == nil {
			response.Body.Close()
			return u, nil
		}
	}
	server.Stop()
	return nil, fmt.Errorf("the Temporal UI did not answer at %s", address)
}

func (u *ui) stop() { u.server.Stop() }
