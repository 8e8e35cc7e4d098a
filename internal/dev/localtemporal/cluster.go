//go:build !race

package localtemporal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
	"google.golang.org/protobuf/types/known/durationpb"

	"narthex/internal/children"
)

const (
	clusterShards = 4 // of histories; cannot be changed in an existing database

	servicePatience = 10 * time.Second // with a service that is stopping
)

// clusterServices are a cluster's processes in the order in which they start. They stop in reverse
// order. The first one also registers the cluster in the database.
var clusterServices = []primitives.ServiceName{
	primitives.MatchingService, primitives.HistoryService, primitives.FrontendService, primitives.WorkerService,
}

// startCluster starts each service as its own process, on the databases of options.Postgres, and
// registers the namespace.
func startCluster(ctx context.Context, options Options, ports ports) (*Server, error) {
	if err := preparePostgres(ctx, options.Postgres); err != nil {
		return nil, err
	}
	members, err := chooseMembers(ports.host())
	if err != nil {
		return nil, err
	}
	logFile, err := os.OpenFile(filepath.Join(options.Dir, logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the folder %s cannot be written to: choose another", options.Dir)
	}
	defer logFile.Close()
	s := &Server{FrontendAddress: ports.address(primitives.FrontendService), ended: make(chan error, len(clusterServices))}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for _, service := range clusterServices {
		process, _, err := children.StartSelf(ctx, logFile, serviceConfig{options.Postgres, ports, members}, ServiceCommand, string(service))
		if err != nil {
			s.Stop()
			return nil, fmt.Errorf("Temporal's %s did not start (see %s in its folder): %w", service, logName, err)
		}
		s.stops = append(s.stops, func() { process.End(servicePatience) })
		go func() {
			<-process.Done()
			s.ended <- fmt.Errorf("Temporal's %s (process %d) has stopped unexpectedly: its log is %s",
				service, process.PID(), filepath.Join(options.Dir, logName))
		}()
	}
	if err := registerNamespace(ctx, s.FrontendAddress, options.Namespace); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// chooseMembers finds free ports for membership. Temporal's PostgreSQL schema stores them in 15 bits, so
// they must be lower than those that the system picks.
func chooseMembers(host string) (ports, error) {
	const lowest, end, attempts = 10_000, 1 << 15, 1000
	chosen := ports{}
	for range attempts {
		if len(chosen) == len(clusterServices) {
			return chosen, nil
		}
		listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(lowest+rand.IntN(end-lowest))))
		if err != nil {
			continue
		}
		defer listener.Close() // only when all are chosen, so that none is chosen twice
		chosen[clusterServices[len(chosen)]] = listener.Addr().String()
	}
	return nil, fmt.Errorf("no ports below %d are free on %s: stop what uses them", end, host)
}

func registerNamespace(ctx context.Context, frontend, namespace string) error {
	c, err := client.NewNamespaceClient(client.Options{HostPort: frontend, Logger: quiet{}})
	if err != nil {
		return fmt.Errorf("Temporal does not answer: %w", err)
	}
	defer c.Close()
	err = c.Register(
		ctx,
		&workflowservice.RegisterNamespaceRequest{Namespace: namespace, WorkflowExecutionRetentionPeriod: durationpb.New(retention)},
	)
	var exists *serviceerror.NamespaceAlreadyExists
	if err != nil && !errors.As(err, &exists) {
		return fmt.Errorf("Temporal's namespace %s cannot be registered: %w", namespace, err)
	}
	return nil
}

// serviceConfig is what a service's process receives at its start.
type serviceConfig struct {
	Postgres string // URL of the server
	Ports    ports  // on which services are called
	Members  ports  // on which they announce themselves to each other
}

// RunService implements ServiceCommand. It runs one service of the cluster that the parent describes on
// in, and reports on out when the service is ready.
func RunService(ctx context.Context, service string, in io.Reader, out io.Writer) error {
	return children.Serve(in, out, func(c serviceConfig, ready func(string)) error {
		persistence, err := postgresPersistence(c.Postgres)
		if err != nil {
			return err
		}
		all := serverConfig(persistence, c.Ports)
		all.Global.Membership.BroadcastAddress = c.Ports.host()
		for name := range c.Members {
			with := all.Services[string(name)]
			_, with.RPC.MembershipPort = c.Members.split(name)
			all.Services[string(name)] = with
		}
		server, err := newServer(all, log.Config{Level: "error", Format: "json"}, temporal.ForServices([]string{service}))
		if err != nil {
			return err
		}
		if err := server.Start(); err != nil {
			return err
		}
		ready(c.Ports.address(primitives.ServiceName(service)))
		<-ctx.Done()
		return server.Stop()
	})
}
