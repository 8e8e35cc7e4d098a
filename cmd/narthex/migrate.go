package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"narthex/internal/config"
	"narthex/internal/fleet/ledger"
	"narthex/internal/hardening"
	"narthex/internal/registry"
)

func migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "migrate", Short: "Migrate the registry to the newest schema", Args: cobra.NoArgs,
		Long: `Migrate the registry to the newest schema. Then say how many churches have which schema, and which
command migrates those that are behind. Then print the statements, if any, that a superuser still
has to run on the registry's PostgreSQL server and, if TENANT_SERVER_URL is set, on that server, so that a
tenant's role can reach only its own database. A superuser creates Narthex's role and the registry
like this:

  CREATE ROLE narthex LOGIN CREATEDB CREATEROLE PASSWORD '…';
  CREATE DATABASE narthex_registry OWNER narthex;
  REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC;
  GRANT CONNECT ON DATABASE postgres TO narthex;
  GRANT pg_read_all_stats TO narthex;`,
		Example: "  narthex --env-file .env migrate",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c struct {
				config.Registry
				config.TenantServer
			}
			if err := config.Parse(&c); err != nil {
				return err
			}
			if err := registry.Migrate(cmd.Context(), string(c.RegistryURL)); err != nil {
				return fmt.Errorf("the registry %s: %w", c.RegistryURL, err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "The registry has the newest schema.")
			if err := sayHowChurchesStand(cmd, string(c.RegistryURL)); err != nil {
				return err
			}
			if err := advise(cmd, c.RegistryURL, false); err != nil || c.TenantServerURL == "" {
				return err
			}
			return advise(cmd, c.TenantServerURL, true)
		},
	}
}

// sayHowChurchesStand says which schema churches have, because only `narthex fleet migrate` changes that.
func sayHowChurchesStand(cmd *cobra.Command, registryURL string) error {
	reg, err := registry.Open(cmd.Context(), registryURL, nil) // there is nothing to open with keys
	if err != nil {
		return err
	}
	defer reg.Close()
	status, err := readFleet(cmd.Context(), ledger.New(reg.Pool()))
	if err != nil {
		return inOneSentence(cmd.Context(), "the churches cannot be counted", err)
	}
	status.Next = status.next(cmd)
	fmt.Fprintln(cmd.OutOrStdout(), status.words())
	return nil
}

// advise prints what a superuser still has to do on a server.
func advise(cmd *cobra.Command, url config.DatabaseURL, makesTenants bool) error {
	missing, err := missing(cmd.Context(), url, makesTenants)
	if err != nil {
		return fmt.Errorf("the PostgreSQL server %s could not be asked for its privileges: %s", url, describe(err))
	}
	if len(missing) == 0 {
		return nil
	}
	fmt.Fprintf(cmd.OutOrStdout(), "On %s, a superuser still has to run:\n", url)
	for _, statement := range missing {
		fmt.Fprintln(cmd.OutOrStdout(), "  "+statement)
	}
	return nil
}

func missing(ctx context.Context, url config.DatabaseURL, makesTenants bool) ([]string, error) {
	conn, err := pgx.Connect(ctx, string(url))
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return hardening.Missing(ctx, conn, makesTenants)
}
