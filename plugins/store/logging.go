package store

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"go.uber.org/zap/zapcore"
)

// zapCore brings etcd's warnings and errors into the agent's log.
type zapCore struct {
	*guard
	with []zapcore.Field
}

// Enabled leaves out what etcd has to say of its own life, and its advice at a start,
// which is for clusters. Giving up is never left out.
func (c zapCore) Enabled(l zapcore.Level) bool {
	switch {
	case l >= zapcore.DPanicLevel:
		return true
	case c.quiet.Load():
		return false
	case l == zapcore.ErrorLevel, l == zapcore.InfoLevel: // see Check
		return true
	}
	return l == zapcore.WarnLevel && c.running.Load()
}

// snapshotting is the line before a snapshot of the log (EtcdServer.snapshot, v3.7).
const snapshotting = "triggering snapshot"

// noise is what etcd complains of at the first start of every new directory; it tries
// again and is content (EtcdServer.monitorStorageVersion).
var noise = []string{"Failed to detect schema version", "failed to update storage version"}

// With is zap's.
func (c zapCore) With(fields []zapcore.Field) zapcore.Core {
	return zapCore{c.guard, append(slices.Clip(c.with), fields...)}
}

// Check is zap's. Of what etcd does in good order nothing is logged.
func (c zapCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Level == zapcore.InfoLevel {
		if e.Message == snapshotting {
			c.snapshot()
		}
		return ce
	}
	if c.Enabled(e.Level) && !slices.Contains(noise, e.Message) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write is zap's.
func (c zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if e.Level >= zapcore.DPanicLevel && !c.running.Load() {
		return nil // comes back as the error of the start
	}
	level := slog.LevelWarn
	if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(slices.Clip(c.with), fields...) {
		f.AddTo(enc)
	}
	attrs := make([]slog.Attr, 0, len(enc.Fields))
	for k, v := range enc.Fields {
		if k == "error" {
			k = "err"
		}
		attrs = append(attrs, slog.Any(k, v))
	}
	slices.SortFunc(attrs, func(a, b slog.Attr) int { return strings.Compare(a.Key, b.Key) })
	c.log.LogAttrs(context.Background(), level, "etcd: "+e.Message, attrs...)
	return nil
}

// Sync is zap's.
func (c zapCore) Sync() error { return nil }
