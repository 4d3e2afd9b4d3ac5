package main

import (
	"io"
	"log/slog"
	"runtime"

	"github.com/spf13/cobra"

	"go.patchbay.dev/agent"
	"go.patchbay.dev/agent/config"
	"go.patchbay.dev/agent/process"
)

func newRun(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent of this node",
		Long: `Run is the agent of this node, until SIGINT or SIGTERM; what is connected stays connected.

Each flag but --config is a key of the configuration. Flags win over PATCHBAY_* environment
variables (etcd.data_dir is PATCHBAY_ETCD_DATA_DIR), which win over the file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(cmd.Flags(), file)
			if err != nil {
				return &usageError{err}
			}
			cfg.Version = ownVersion()
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			defer runtime.KeepAlive(process.PrepareHeap())
			log, flush := newLog(a.err, cfg.Log)
			defer flush()
			if err := process.SetTimerSlack(); err != nil {
				log.Debug("a request takes more of the processor than it need", "err", err)
			}
			return agent.Run(ctx, cfg, log)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (default "+config.DefaultFile+", if it exists)")
	config.AddFlags(cmd.Flags())
	return cmd
}

// newLog gives the log that the configuration asks for; flush is to be called at the end.
func newLog(w io.Writer, c config.Log) (log *slog.Logger, flush func()) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo // the configuration is checked, so this is not reached
	}
	o := &slog.HandlerOptions{Level: level}
	return process.LateLog(w, func(w io.Writer) slog.Handler {
		if c.Format == "json" {
			return slog.NewJSONHandler(w, o)
		}
		return slog.NewTextHandler(w, o)
	})
}
