package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"go.patchbay.dev/plugins/admin/adminpb"
)

func newDelete(a *app) *cobra.Command {
	var force bool
	kinds := []string{"crossconnect", "connection", "service", "endpoint", "bridge"}
	cmd := &cobra.Command{
		Use:   "delete KIND NAME…",
		Short: "Delete desired objects; deleting a connection closes it",
		Long: `Delete removes cross-connects, connections, services, endpoints or bridges by name. What they
were programmed to is undone. A workload that keeps its connection asks for it again; of a durable
request the record is removed, so that it stays closed. A bridge that has members is deleted with
--force only: they go down.`,
		Example:   "  patchbay delete crossconnect c1",
		ValidArgs: kinds,
		Args:      cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := kindOf(args[0], kinds)
			if err != nil {
				return err
			}
			return a.admin(func(c adminpb.AdminClient) error {
				for _, name := range args[1:] {
					ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
					_, err := c.Delete(ctx, &adminpb.DeleteRequest{Kind: kind, Name: name, Force: force})
					cancel()
					if err != nil {
						return a.explained(err, "delete %s/%s", kind, name)
					}
					fmt.Fprintf(a.out, "%s/%s deleted\n", kind, name)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "delete a bridge that has members")
	return cmd
}
