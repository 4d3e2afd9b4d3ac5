package deviceplugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// kubeletSocket is where kubelet takes registrations, in its directory of device plugins
// (KubeletSocket of the API).
const kubeletSocket = "kubelet.sock"

// Between attempts to register with a kubelet that does not answer.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

// run has every pool served and registered, again whenever kubelet has started: it then
// removes all sockets from its directory and makes its own anew.
func (p *Plugin) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		err := p.watch.look()
		if err == nil {
			err = p.settleWatching(ctx)
		}
		var again <-chan time.Time
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errAway): // its coming is heard of
			p.complain(err)
			pause = firstPause
		case err != nil:
			p.complain(err)
			again = time.After(pause)
			pause = min(2*pause, longestPause)
		case !p.heard():
			again = time.After(listenTimeout)
			fallthrough
		default:
			p.trouble, pause = "", firstPause
		}
		select {
		case e := <-p.watch.Events:
			p.watch.happened(e)
			pause = firstPause
		case err := <-p.watch.Errors: // that something was missed: it is looked for
			p.o.Log.Debug("watch of kubelet's directory", "err", err)
		case <-p.wake:
		case <-again:
		case <-ctx.Done():
		}
	}
}

// wake has whoever listens look again.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

var errRemoved = errors.New("kubelet was removing sockets from its directory")

// settleWatching settles, and breaks off when something is removed meanwhile: a kubelet that
// has just started waits in vain for a plugin whose socket it has removed.
func (p *Plugin) settleWatching(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- p.settle(ctx) }()
	for {
		select {
		case e := <-p.watch.Events:
			p.watch.happened(e)
			if e.Has(fsnotify.Remove) {
				cancel(errRemoved)
			}
			wake(p.wake) // it may have come too late for what was looked at
		case err := <-done:
			return cmp.Or(context.Cause(ctx), err)
		}
	}
}

// complain logs what keeps kubelet from knowing all pools, once as long as it is the same.
func (p *Plugin) complain(err error) {
	if what := err.Error(); what != p.trouble {
		p.trouble = what
		p.o.Log.Warn("kubelet does not count all devices; it is tried again", "err", err)
	}
}

var errAway = errors.New("kubelet is not there")

// settle serves and registers what is not yet. Where kubelet's directory or socket is not
// there, that waits for the watch, and is errAway.
func (p *Plugin) settle(ctx context.Context) error {
	if _, err := os.Stat(p.o.Dir); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: no directory %s, which sriov.kubelet names", errAway, p.o.Dir)
	} else if err != nil {
		return err
	}
	// Once kubelet's socket is there, kubelet has removed all that it would remove.
	kubelet, away := os.Lstat(filepath.Join(p.o.Dir, kubeletSocket))
	if away != nil && !errors.Is(away, os.ErrNotExist) {
		return away
	}
	for _, s := range p.servers {
		err := s.serve()
		if err == nil && away == nil && !s.knownTo(kubelet) {
			err = s.register(ctx, kubelet)
		}
		if err != nil {
			return fmt.Errorf("pool %s: %w", s.pool, err)
		}
	}
	if away != nil {
		return fmt.Errorf("%w: no socket %s", errAway, filepath.Join(p.o.Dir, kubeletSocket))
	}
	return nil
}

// heard tells whether kubelet listens to every pool that it knows.
func (p *Plugin) heard() bool {
	return !slices.ContainsFunc(p.servers, func(s *server) bool { return s.kubelet != nil && !s.heard() })
}

// watch follows a directory, or while it is not there the nearest one above it.
type watch struct {
	*fsnotify.Watcher
	dir     string
	watched string
}

// look watches what is nearest now.
func (w *watch) look() error {
	for {
		near := nearest(w.dir)
		if near == w.watched {
			return nil
		}
		if err := w.Add(near); err != nil {
			return fmt.Errorf("watch %s: %w", near, err)
		}
		if w.watched != "" {
			w.Remove(w.watched) // the kernel may have done so
		}
		w.watched = near
	}
}

// happened notes that what was watched is gone.
func (w *watch) happened(e fsnotify.Event) {
	if e.Name == w.watched && e.Has(fsnotify.Remove|fsnotify.Rename) {
		w.watched = ""
	}
}

// nearest is dir, or the nearest directory above it that is there.
func nearest(dir string) string {
	for dir != "/" {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return dir
}
