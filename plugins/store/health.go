package store

import (
	"context"
	"errors"
	"strings"
)

// Up is nil while etcd answers and takes writes. Else it is why not: an error that wraps
// ErrUnavailable and has the reason in words. While etcd answers but its disk or database
// is full, reads and watches go on.
func (s *Store) Up() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Changed gives a channel that is closed when what Up says changes. To miss nothing, ask
// for the channel first and then for Up.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// set takes note of the present session (none: etcd is away) and of what Up says.
func (s *Store) set(ses *session, err error) {
	if err != nil && !errors.Is(err, ErrUnavailable) {
		err = unavailable("%s", reason(err))
	}
	s.mu.Lock()
	was, closed := s.err, s.ctx.Err() != nil
	same := ses == s.session && text(err) == text(was)
	if !same {
		if ses != nil && ses != s.session {
			s.revision.Store(ses.revision)
		}
		s.session, s.err = ses, err
		close(s.changed)
		s.changed = make(chan struct{})
	}
	s.mu.Unlock()
	if !same && !closed {
		s.logChange(was, err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// logChange says once that etcd has gone or come; other reasons in between are for debugging.
func (s *Store) logChange(was, is error) {
	why := strings.TrimPrefix(text(is), ErrUnavailable.Error()+": ")
	switch {
	case is == nil:
		s.log.Info("etcd is available", "revision", s.Revision())
	case was == nil:
		s.log.Warn("etcd is unavailable", "reason", why)
	default:
		s.log.Debug("etcd is still unavailable", "reason", why)
	}
}

// current is the present session, or why there is none.
func (s *Store) current() (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == nil {
		return nil, s.err
	}
	return s.session, nil
}

// await is the present session, or the next one once there is one.
func (s *Store) await(ctx context.Context) (*session, error) {
	for {
		changed := s.Changed()
		ses, err := s.current()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case s.ctx.Err() != nil:
			return nil, errClosed()
		case err == nil:
			return ses, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
