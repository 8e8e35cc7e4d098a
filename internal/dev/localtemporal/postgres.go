//go:build !race

package localtemporal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	"go.temporal.io/server/common/persistence/sql"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql"
	"go.temporal.io/server/common/resolver"
	"go.temporal.io/server/schema"
	postgresschema "go.temporal.io/server/schema/postgresql/v12"
)

// store is one of the two databases of a cluster.
type store struct {
	database, schema, version string
	connections               int // at most, for each service
}

var (
	defaultStore    = store{"temporal", "postgresql/v12/temporal/schema.sql", postgresschema.Version, 15}
	visibilityStore = store{"temporal_visibility", "postgresql/v12/visibility/schema.sql", postgresschema.VisibilityVersion, 5}
)

const (
	databaseExists = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`

	// Otherwise the cluster would wait for the last run's members, whose addresses no longer answer.
	forgetMembers = `DELETE FROM cluster_membership`
)

// preparePostgres creates the cluster's missing databases on the server of a URL.
func preparePostgres(ctx context.Context, server string) error {
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return errors.New("no connection to the PostgreSQL server for Temporal: start it")
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, s := range []store{defaultStore, visibilityStore} {
		if err := s.prepare(ctx, conn, server); err != nil {
			return fmt.Errorf("Temporal's database %s cannot be created: %w", s.database, err)
		}
	}
	at, err := defaultStore.config(server, defaultStore.database)
	if err != nil {
		return err
	}
	return execute(at, forgetMembers)
}

// prepare creates the database, unless it exists. It does so under a temporary name, so that the database is
// never incomplete under its own. Tenants' roles cannot connect to it.
func (s store) prepare(ctx context.Context, conn *pgx.Conn, server string) error {
	var exists bool
	if err := conn.QueryRow(ctx, databaseExists, s.database).Scan(&exists); err != nil || exists {
		return err
	}
	draft := s.database + "_new"
	for _, statement := range []string{
		`DROP DATABASE IF EXISTS %s`,
		`CREATE DATABASE %s`,
		`REVOKE CONNECT, TEMPORARY ON DATABASE %s FROM PUBLIC`,
	} {
		if _, err := conn.Exec(ctx, fmt.Sprintf(statement, draft)); err != nil {
			return err
		}
	}
	if err := s.makeSchema(server, draft); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, fmt.Sprintf(`ALTER DATABASE %s RENAME TO %s`, draft, s.database))
	return err
}

func (s store) makeSchema(server, database string) error {
	statements, err := fs.ReadFile(schema.Assets(), s.schema)
	if err != nil {
		return err
	}
	at, err := s.config(server, database)
	if err != nil {
		return err
	}
	db, err := openAdmin(at)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.Exec(string(statements)); err != nil {
		return err
	}
	if err := db.CreateSchemaVersionTables(); err != nil {
		return err
	}
	return db.UpdateSchemaVersion(s.database, s.version, s.version)
}

func openAdmin(at *config.SQL) (sqlplugin.AdminDB, error) {
	return sql.NewSQLAdminDB(sqlplugin.DbKindUnknown, at, resolver.NewNoopResolver(), log.NewNoopLogger(), metrics.NoopMetricsHandler)
}

func execute(at *config.SQL, statement string) error {
	db, err := openAdmin(at)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Exec(statement)
}

// config says how Temporal reaches a database of the server.
func (s store) config(server, database string) (*config.SQL, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, errors.New("the URL of the PostgreSQL server for Temporal is malformed")
	}
	password, _ := u.User.Password()
	attributes := map[string]string{}
	for name, values := range u.Query() {
		attributes[name] = values[0]
	}
	return &config.SQL{
		PluginName: postgresql.PluginNamePGX, ConnectProtocol: "tcp", ConnectAddr: u.Host, DatabaseName: database,
		User: u.User.Username(), Password: password, ConnectAttributes: attributes,
		MaxConns: s.connections, MaxIdleConns: s.connections,
	}, nil
}

// postgresPersistence keeps histories in one database and visibility records in the other.
func postgresPersistence(server string) (config.Persistence, error) {
	history, err := defaultStore.config(server, defaultStore.database)
	if err != nil {
		return config.Persistence{}, err
	}
	visibility, err := visibilityStore.config(server, visibilityStore.database)
	if err != nil {
		return config.Persistence{}, err
	}
	return config.Persistence{
		DefaultStore: "default", VisibilityStore: "visibility", NumHistoryShards: clusterShards,
		DataStores: map[string]config.DataStore{"default": {SQL: history}, "visibility": {SQL: visibility}},
	}, nil
}
