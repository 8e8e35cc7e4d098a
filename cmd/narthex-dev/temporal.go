package main

import (
	"encoding/json"
	"errors"
	"os"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"narthex/internal/dev/localtemporal"
)

// temporalCommand runs Temporal alone: for tests, and for several stacks on one Temporal.
func temporalCommand() *cobra.Command {
	var data, address, ui string
	var cluster bool
	cmd := &cobra.Command{
		Use: "temporal", Short: "Run only Temporal and its UI, and print their addresses as JSON", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options := localtemporal.Options{Dir: data, FrontendAddress: address, UIAddress: ui, Namespace: client.DefaultNamespace}
			if cluster {
				options.Postgres = os.Getenv("DATABASE_URL")
				if options.Postgres == "" {
					return errors.New("--cluster needs a PostgreSQL server: name it in DATABASE_URL")
				}
			}
			server, err := localtemporal.Start(cmd.Context(), options)
			if err != nil {
				return err
			}
			defer server.Stop()
			where := map[string]string{"temporal": server.FrontendAddress, "namespace": client.DefaultNamespace, "ui": uiURL(server)}
			if err := json.NewEncoder(cmd.OutOrStdout()).Encode(where); err != nil {
				return err
			}
			select {
			case <-cmd.Context().Done():
				return nil
			case err := <-server.Ended():
				return err
			}
		},
	}
	cmd.Flags().StringVar(&data, "data", ".narthex/temporal", "keep the data in `DIR`")
	cmd.Flags().StringVar(&address, "temporal", "127.0.0.1:7233", "`ADDRESS` of Temporal")
	cmd.Flags().StringVar(&ui, "ui", "127.0.0.1:8233", "`ADDRESS` of its UI; if it is empty, there is no UI")
	cmd.Flags().BoolVar(&cluster, "cluster", false, "run each of its services as a process, on the PostgreSQL server of DATABASE_URL")
	return cmd
}

// temporalServiceCommand runs one of a Temporal cluster's services, on behalf of the two commands that run a cluster.
func temporalServiceCommand() *cobra.Command {
	return &cobra.Command{
		Use: localtemporal.ServiceCommand, Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return localtemporal.RunService(cmd.Context(), arguments[0], cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

func uiURL(server *localtemporal.Server) string {
	if server.UIAddress == "" {
		return ""
	}
	return "http://" + server.UIAddress
}
