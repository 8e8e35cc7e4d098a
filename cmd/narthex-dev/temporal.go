package main

import (
	"encoding/json"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"narthex/internal/temporaldev"
)

// temporalCommand runs Temporal alone: for tests, and for several stacks on one Temporal.
func temporalCommand() *cobra.Command {
	var data, address, ui string
	cmd := &cobra.Command{
		Use: "temporal", Short: "Run Temporal and its UI alone, and print where as JSON", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := temporaldev.Start(cmd.Context(), temporaldev.Options{
				Dir: data, FrontendAddress: address, UIAddress: ui, Namespace: client.DefaultNamespace,
			})
			if err != nil {
				return err
			}
			defer server.Stop()
			where := map[string]string{"temporal": server.FrontendAddress, "namespace": client.DefaultNamespace, "ui": uiURL(server)}
			if err := json.NewEncoder(cmd.OutOrStdout()).Encode(where); err != nil {
				return err
			}
			<-cmd.Context().Done()
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", ".narthex/temporal", "keep the data in `DIR`")
	cmd.Flags().StringVar(&address, "temporal", "127.0.0.1:7233", "`ADDRESS` of Temporal")
	cmd.Flags().StringVar(&ui, "ui", "127.0.0.1:8233", "`ADDRESS` of its UI; empty runs none")
	return cmd
}

func uiURL(server *temporaldev.Server) string {
	if server.UIAddress == "" {
		return ""
	}
	return "http://" + server.UIAddress
}
