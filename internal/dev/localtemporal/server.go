//go:build !race

package localtemporal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
	schema "go.temporal.io/server/schema/sqlite"
	"go.temporal.io/server/temporal"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Server is a running server, one process or a cluster of them, with its UI.
type Server struct {
	FrontendAddress string // host:port
	UIAddress       string // host:port; empty without a UI

	stops []func() // called last first
	ended chan error
}

const (
	startLimit  = time.Minute
	retention   = 30 * 24 * time.Hour // of closed workflows
	clusterName = "active"
	logName     = "temporal.log"
)

// Start starts the server, and returns when it answers and the namespace can be used. Workflows in its database continue
// where they stopped.
func Start(ctx context.Context, options Options) (*Server, error) {
	if err := os.MkdirAll(options.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder %s cannot be created: choose another", options.Dir)
	}
	ports, err := choosePorts(options.FrontendAddress)
	if err != nil {
		return nil, err
	}
	start := startSingle
	if options.Postgres != "" {
		start = startCluster
	}
	s, err := start(ctx, options, ports)
	if err != nil {
		return nil, err
	}
	if err := s.awaitNamespace(ctx, options.Namespace); err != nil {
		s.Stop()
		return nil, err
	}
	if options.UIAddress != "" {
		ui, err := startUI(options, s.FrontendAddress)
		if err != nil {
			s.Stop()
			return nil, err
		}
		s.UIAddress, s.stops = ui.address, append(s.stops, ui.stop)
	}
	return s, nil
}

// Stop stops the UI and the server.
func (s *Server) Stop() {
	for _, stop := range slices.Backward(s.stops) {
		stop()
	}
}

// Ended reports the error of a cluster process that has ended.
func (s *Server) Ended() <-chan error { return s.ended }

// startSingle runs all services in this process, on an SQLite file.
func startSingle(_ context.Context, options Options, ports ports) (*Server, error) {
	sql := sqliteConfig(filepath.Join(options.Dir, "temporal.db"))
	if err := prepareDatabase(sql, options.Namespace); err != nil {
		return nil, fmt.Errorf("Temporal's file in %s cannot be used: move it away to start over: %w", options.Dir, err)
	}
	persistence := config.Persistence{
		DefaultStore: sqlite.PluginName, VisibilityStore: sqlite.PluginName, NumHistoryShards: 1,
		DataStores: map[string]config.DataStore{sqlite.PluginName: {SQL: sql}},
	}
	server, err := newServer(serverConfig(persistence, ports),
		log.Config{Level: "error", OutputFile: filepath.Join(options.Dir, logName), Format: "json"},
		temporal.ForServices(temporal.DefaultServices), temporal.WithStaticHosts(ports.hosts()))
	if err != nil {
		return nil, err
	}
	if err := server.Start(); err != nil {
		return nil, fmt.Errorf("Temporal did not start: %w", err)
	}
	// Stop's error says what it could not drain, which doesn't matter here.
	return &Server{FrontendAddress: ports.address(primitives.FrontendService), stops: []func(){func() { _ = server.Stop() }}}, nil
}

func newServer(c *config.Config, logging log.Config, options ...temporal.ServerOption) (temporal.Server, error) {
	logger := log.NewZapLogger(log.BuildZapLogger(logging))
	server, err := temporal.NewServer(append(options,
		temporal.WithConfig(c),
		temporal.WithLogger(logger),
		temporal.WithNamespaceLogger(logger),
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return authorization.NewNoopClaimMapper() }),
		temporal.WithDynamicConfigClient(dynamicConfig),
	)...)
	if err != nil {
		return nil, fmt.Errorf("Temporal cannot be set up: %w", err)
	}
	return server, nil
}

// sqliteConfig keeps everything in one file that survives the process (WAL, synchronous = normal).
func sqliteConfig(file string) *config.SQL {
	return &config.SQL{
		PluginName:        sqlite.PluginName,
		DatabaseName:      file,
		ConnectAttributes: map[string]string{"mode": "rwc", "journal_mode": "WAL", "synchronous": "1"},
	}
}

// prepareDatabase creates the schema, unless it exists: in a temporary file that is renamed once it is complete.
func prepareDatabase(sql *config.SQL, namespace string) error {
	if _, err := os.Stat(sql.DatabaseName); errors.Is(err, os.ErrNotExist) {
		draft := *sql
		draft.DatabaseName += ".new"
		draft.ConnectAttributes = map[string]string{"mode": "rwc"} // no WAL: the file alone must hold everything
		if err := os.RemoveAll(draft.DatabaseName); err != nil {
			return err
		}
		if err := schema.SetupSchema(&draft); err != nil {
			return err
		}
		if err := os.Rename(draft.DatabaseName, sql.DatabaseName); err != nil {
			return err
		}
	}
	ns, err := schema.NewNamespaceConfig(clusterName, namespace, false, nil)
	if err != nil {
		return err
	}
	ns.Detail.Config.Retention = durationpb.New(retention)
	return schema.CreateNamespaces(sql, ns)
}

var dynamicConfig = dynamicconfig.StaticClient{
	// By default a shard's queues are polled 20 times a second. With one shard, each workflow task
	// would wait up to 50 ms.
	dynamicconfig.TransferProcessorMaxPollRPS.Key():   2000,
	dynamicconfig.TimerProcessorMaxPollRPS.Key():      2000,
	dynamicconfig.VisibilityProcessorMaxPollRPS.Key(): 2000,

	// By default a deleted run stays for a minute, until the queues' positions have been saved twice.
	dynamicconfig.TransferProcessorEnsureCloseBeforeDelete.Key(): false,

	dynamicconfig.ForceSearchAttributesCacheRefreshOnRead.Key(): true,  // new attributes work at once
	dynamicconfig.EnableServerVersionCheck.Key():                false, // it would ask a server on the internet
	dynamicconfig.FrontendShutdownDrainDuration.Key():           time.Duration(0),
	dynamicconfig.HistoryShutdownDrainDuration.Key():            time.Duration(0),
	dynamicconfig.MatchingShutdownDrainDuration.Key():           time.Duration(0),
}

func serverConfig(persistence config.Persistence, ports ports) *config.Config {
	c := &config.Config{
		Persistence: persistence,
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: ports.address(primitives.FrontendService)},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Archival: config.Archival{
			History:    config.HistoryArchival{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchival{State: config.ArchivalDisabled},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History:    config.HistoryArchivalNamespaceDefaults{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchivalNamespaceDefaults{State: config.ArchivalDisabled},
		}},
		PublicClient: config.PublicClient{HostPort: ports.address(primitives.FrontendService)},
		Services:     map[string]config.Service{},
	}
	for service := range ports {
		host, port := ports.split(service)
		c.Services[string(service)] = config.Service{RPC: config.RPC{BindOnIP: host, GRPCPort: port}}
	}
	return c
}

// ports are the host:port addresses on which the server's services listen.
type ports map[primitives.ServiceName]string

// choosePorts finds free ports on the frontend's host, and one for the frontend itself if its port is 0.
func choosePorts(frontend string) (ports, error) {
	host, _, err := net.SplitHostPort(frontend)
	if err != nil || net.ParseIP(host) == nil {
		return nil, fmt.Errorf("Temporal's address %s is not an address like 127.0.0.1:7233", frontend)
	}
	chosen := ports{}
	for service, address := range map[primitives.ServiceName]string{
		primitives.FrontendService: frontend,
		primitives.HistoryService:  net.JoinHostPort(host, "0"),
		primitives.MatchingService: net.JoinHostPort(host, "0"),
		primitives.WorkerService:   net.JoinHostPort(host, "0"),
	} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("Temporal's address %s is taken: stop what uses it, or choose another", address)
		}
		defer listener.Close() // only when all are chosen, so that none is chosen twice
		chosen[service] = listener.Addr().String()
	}
	return chosen, nil
}

func (p ports) address(service primitives.ServiceName) string { return p[service] }

func (p ports) split(service primitives.ServiceName) (host string, port int) {
	host, text, _ := net.SplitHostPort(p[service])
	port, _ = strconv.Atoi(text)
	return host, port
}

func (p ports) host() string {
	host, _ := p.split(primitives.FrontendService)
	return host
}

// hosts lists the services' addresses, so that they need not discover each other.
func (p ports) hosts() map[primitives.ServiceName]static.Hosts {
	hosts := map[primitives.ServiceName]static.Hosts{}
	for service, address := range p {
		hosts[service] = static.SingleLocalHost(address)
	}
	return hosts
}

// awaitNamespace waits until the frontend answers and knows the namespace.
func (s *Server) awaitNamespace(ctx context.Context, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	c, err := client.NewLazyClient(client.Options{HostPort: s.FrontendAddress, Namespace: namespace, Logger: quiet{}})
	if err != nil {
		return fmt.Errorf("Temporal does not answer: %w", err)
	}
	defer c.Close()
	for {
		attempt, cancelAttempt := context.WithTimeout(ctx, 2*time.Second)
		_, err := c.WorkflowService().DescribeNamespace(attempt, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
		if err == nil {
			_, err = c.ListWorkflow(attempt, &workflowservice.ListWorkflowExecutionsRequest{Namespace: namespace, PageSize: 1})
		}
		cancelAttempt()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("Temporal did not answer within %s: see %s in its folder", startLimit, logName)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// quiet is an SDK logger that logs nothing.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}
