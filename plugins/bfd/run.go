package bfd

import (
	"context"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/vppapi"
)

// run sees to it that all paths have their sessions, and no others.
func (p *Plugin) run(ctx context.Context) {
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		kernel, vpp, gone := p.sort()
		p.end(ctx, gone)
		p.speak(kernel)
		if p.o.VPP != nil {
			p.look(ctx, vpp)
		}
		select {
		case <-p.kick:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// sort gives the paths that each dataplane is to have the session of, and sessions that are
// to end: of paths that nobody watches any more, and of those that the other dataplane has now.
func (p *Plugin) sort() (kernel, vpp []models.TunnelPath, gone map[models.TunnelPath]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gone = map[models.TunnelPath]bool{}
	for at, w := range p.paths {
		on, known := p.o.OnVPP(at.Local)
		switch {
		case len(w.watchers) == 0 && time.Now().After(w.until):
			gone[at] = w.vpp
			delete(p.paths, at)
		case !known:
		default:
			if on != w.vpp && !w.began.IsZero() {
				gone[at] = w.vpp
				w.begin(time.Time{})
			}
			if w.vpp = on; on {
				vpp = append(vpp, at)
			} else {
				kernel = append(kernel, at)
			}
		}
	}
	return kernel, vpp, gone
}

// end ends sessions, of VPP's where that is true.
func (p *Plugin) end(ctx context.Context, gone map[models.TunnelPath]bool) {
	for at, vpp := range gone {
		if !vpp {
			p.speaker.stop(at)
		} else if err := p.o.VPP.DeleteBFD(ctx, at.Local, at.Remote); err != nil {
			p.o.Log.Debug("a BFD session is left in VPP", "local", at.Local, "remote", at.Remote, "err", err)
		}
	}
}

// speak begins the sessions of the kernel's that are not there.
func (p *Plugin) speak(paths []models.TunnelPath) {
	for _, at := range paths {
		p.mu.Lock()
		w := p.paths[at]
		there := w == nil || !w.began.IsZero()
		if !there {
			w.begin(time.Now())
		}
		p.mu.Unlock()
		if there {
			continue
		}
		p.failed(at, p.speaker.start(at))
	}
}

// look compares VPP's sessions with the wanted ones: VPP tells that one has changed, not how
// it is now, and nothing when somebody deletes one.
func (p *Plugin) look(ctx context.Context, paths []models.TunnelPath) {
	if len(paths) == 0 {
		return
	}
	all, err := p.o.VPP.BFDs(ctx)
	if p.o.VPP.Gone() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, at := range paths {
			if w := p.paths[at]; w != nil {
				w.begin(time.Time{})
			}
		}
		return
	}
	if err != nil {
		return // it hangs; what was known of it stays
	}
	found := map[models.TunnelPath]vppapi.BFDSession{}
	for _, s := range all {
		found[models.TunnelPath{Local: s.Local, Remote: s.Remote}] = s
	}
	for _, at := range paths {
		want := vppapi.BFD{Local: at.Local, Remote: at.Remote, Interval: p.interval, Multiplier: multiplier}
		s, there := found[at]
		if s.BFD != want {
			err := p.o.VPP.SetBFD(ctx, want)
			p.failed(at, err)
			if err != nil {
				continue
			}
		}
		p.mu.Lock()
		if w := p.paths[at]; w != nil {
			if !there || w.began.IsZero() {
				w.begin(time.Now())
			}
			p.set(at, w, s.Up, false)
		}
		p.mu.Unlock()
	}
}

// failed notes why a path has no session, and says so once.
func (p *Plugin) failed(at models.TunnelPath, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.paths[at]
	if w == nil {
		return
	}
	was := w.refused
	if w.refused = ""; err != nil {
		w.begin(time.Time{})
		if w.refused = err.Error(); w.refused != was {
			p.o.Log.Warn("a tunnel path cannot be watched", "local", at.Local, "remote", at.Remote, "err", err)
		}
	}
}
