package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/models"
)

// request is one Request under way.
type request struct {
	peer   peer
	id     string // of the record
	index  int    // of the caller's path segment
	conn   *networkservice.Connection
	wants  []want               // the client's mechanisms in order of preference
	passed []passed             // their namespaces that are still to be opened
	insist bool                 // the client has chosen its mechanism and takes no other
	record *models.CrossConnect // on record already; nil: a new connection
	known  *networkservice.Connection

	skew     time.Duration // this node's clock is ahead of the calling agent's
	pinned   bool          // the endpoint is no other's choice: a durable request names it
	revision int64         // of the durable request
	told     string        // the endpoint that the client knows of, if not that of the record
}

// Request connects a client to a network service, refreshes its connection or changes
// what differs. It answers when the dataplane carries the connection. Errors have NSM's
// codes: NotFound (service), Unavailable (endpoint, etcd), InvalidArgument (a field),
// FailedPrecondition (no mechanism in common, the dataplane), ResourceExhausted (the
// dataplane has no room), PermissionDenied (another client's id).
func (m *Manager) Request(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	start := time.Now()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}
	out, err := m.request(ctx, in)
	err = coded(err, codes.Internal)
	took := time.Since(start)
	id, service := in.GetConnection().GetId(), in.GetConnection().GetNetworkService()
	if err != nil {
		m.Observer.Request("Request", status.Code(err), took)
		m.Log.Warn("request refused", "connection", id, "service", service, "took", took, "code", status.Code(err).String(), "err", clean(err))
		return nil, err
	}
	m.Observer.Request("Request", codes.OK, took)
	m.Log.Info("request", "connection", id, "service", service, "took", took, "endpoint", out.NetworkServiceEndpointName, "mechanism", out.GetMechanism().GetType())
	return out, nil
}

func (m *Manager) request(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	p, err := peerOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.serving(ctx); err != nil {
		m.spare(recordID(in.GetConnection().GetId()))
		return nil, err
	}
	r := &request{peer: p, conn: in.GetConnection().Clone()}
	if r.conn == nil || r.conn.NetworkService == "" {
		return nil, status.Error(codes.InvalidArgument, "connection.network_service is missing; name the network service")
	}
	if r.index, err = caller(r.conn); err != nil {
		return nil, err
	}
	if err := m.enterAgent(ctx, r); err != nil {
		return nil, err
	}
	r.id = recordID(r.conn.Id)
	unlock, err := m.ids.lock(ctx, r.id)
	if err != nil {
		return nil, fmt.Errorf("another request for this connection is under way: %w", err)
	}
	defer unlock()
	defer m.releaseHeld(r.id)
	if err := m.admit(ctx, r); err != nil {
		return nil, err
	}
	if err := m.readWants(ctx, r, in.GetMechanismPreferences()); err != nil {
		return nil, err
	}
	if err := m.checkClient(r); err != nil {
		return nil, err
	}
	out, err := m.connect(ctx, r)
	if err == nil && r.peer.agent != nil {
		shift(out.Path, -r.skew) // back to its own clock
	}
	return out, err
}

// serving fails at once while etcd is away, and waits while an agent that has just
// started reads what is on record.
func (m *Manager) serving(ctx context.Context) error {
	if err := m.Store.Up(); err != nil {
		return err
	}
	select {
	case <-m.ready:
		return nil
	case <-ctx.Done():
		return status.Error(codes.Unavailable, "the agent is still reading its records; try again")
	}
}

// admit finds what is on record under the id and whether the caller may have it, and
// moves the connection to this agent's path segment.
func (m *Manager) admit(ctx context.Context, r *request) error {
	r.record, r.known, _ = m.known(r.id)
	if r.record != nil && !m.may(r.peer, r.record.Request.Owner) {
		return status.Errorf(codes.PermissionDenied, "connection id %q is used by another client; choose another id", r.conn.Id)
	}
	if r.record == nil {
		if x, _, ok := m.Records.Lookup(r.id); ok && x.GetRequest() == nil {
			return status.Errorf(codes.AlreadyExists, "connection id %q is that of a cross-connect written to etcd; choose another id", r.conn.Id)
		}
	}
	return m.stamp(ctx, r)
}

// stamp sets how long the connection lasts: as long as the caller's token, which comes in
// the path or beside the call as NSM's clients send it.
func (m *Manager) stamp(ctx context.Context, r *request) error {
	segment := r.conn.Path.PathSegments[r.index]
	md, _ := metadata.FromIncomingContext(ctx)
	if t := md.Get("nsm-client-token"); len(t) > 0 {
		segment.Token = t[0]
	}
	expires, err := tokenExpiry(md)
	if err != nil {
		return err
	}
	if expires != nil {
		segment.Expires = expires
	}
	if segment.Expires == nil {
		segment.Expires = timestamppb.New(time.Now().Add(DefaultLifetime))
	}
	if expires := segment.Expires.AsTime(); time.Until(expires) <= 0 {
		return status.Errorf(codes.InvalidArgument, "connection.path segment %d expired at %s; send a token that is valid", r.index, expires.Format(time.RFC3339))
	}
	enter(r.conn, r.index, m.Keys.Node, r.known)
	r.conn.Path.PathSegments[r.index+1].Expires = segment.Expires
	return nil
}

// tokenExpiry is when the caller's token expires, nil if it sent none.
func tokenExpiry(md metadata.MD) (*timestamppb.Timestamp, error) {
	t := md.Get("nsm-client-token-expires")
	if len(t) == 0 {
		return nil, nil
	}
	at, err := time.Parse(time.RFC3339Nano, t[0])
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "metadata nsm-client-token-expires %q is not a time as in RFC 3339", t[0])
	}
	return timestamppb.New(at), nil
}

// connect asks one candidate after the other until one answers with what fits.
func (m *Manager) connect(ctx context.Context, r *request) (*networkservice.Connection, error) {
	list, err := m.choices(r)
	if err != nil {
		return nil, err
	}
	if err := m.settlePayload(r); err != nil {
		return nil, err
	}
	elsewhere := slices.ContainsFunc(list, func(e *models.Endpoint) bool { return !m.here(e) })
	var refusals []error
	for i, e := range list {
		out, err := m.try(ctx, r, e, len(list)-i, elsewhere)
		var refused *refusal
		if err == nil || !errors.As(err, &refused) {
			return out, err
		}
		if from := "endpoint " + e.Name + ": "; !strings.HasPrefix(clean(refused.err), from) { // else the agent of its node says so
			refused.err = fmt.Errorf("%s%w", from, refused.err)
		}
		refusals = append(refusals, refused.err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, refusedByAll(r, refusals)
}

// choices are the endpoints to ask, in order.
func (m *Manager) choices(r *request) ([]*models.Endpoint, error) {
	if r.peer.agent != nil {
		return m.asked(r)
	}
	reselect := r.conn.State == networkservice.State_RESELECT_REQUESTED
	var current string
	if r.known != nil {
		current = r.known.NetworkServiceEndpointName
	}
	pinned := r.conn.NetworkServiceEndpointName
	if told := r.record.GetRequest().GetTold(); told != "" && pinned == told {
		// It has not heard yet that it was connected to another.
		pinned, r.conn.Context = current, proto.CloneOf(r.known.GetContext())
	}
	if reselect && pinned == current && !r.pinned {
		pinned = ""
	}
	return m.candidates(r.conn.NetworkService, r.conn.Labels, pinned, current, reselect)
}

// refusal is why one endpoint will not do; the next may.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refusedByAll(r *request, refusals []error) error {
	if len(refusals) == 1 {
		return coded(refusals[0], codes.Unavailable)
	}
	var b strings.Builder
	for _, err := range refusals {
		b.WriteString("; " + clean(err))
	}
	return status.Errorf(codes.Unavailable, "none of the %s of network service %q took the connection%s",
		plural(len(refusals), "endpoint"), r.conn.NetworkService, b.String())
}

// settlePayload takes the network service's payload where the client names none.
func (m *Manager) settlePayload(r *request) error {
	if r.conn.Payload == "" {
		s, _ := m.registry.service(r.conn.NetworkService)
		r.conn.Payload = s.GetPayload()
	}
	if r.conn.Payload == "" {
		r.conn.Payload = models.IP // NSM's default
	}
	if r.conn.Payload != models.Ethernet && r.conn.Payload != models.IP {
		return status.Errorf(codes.InvalidArgument, "connection.payload %q is not known; use ETHERNET or IP", r.conn.Payload)
	}
	return nil
}

// try asks one endpoint and, when it agrees, brings the connection into being. What the
// ends have in common is the same for all endpoints of this node, but not elsewhere.
func (m *Manager) try(ctx context.Context, r *request, e *models.Endpoint, candidates int, elsewhere bool) (*networkservice.Connection, error) {
	// Each candidate gets its share of the time, so that one that hangs leaves some to the next.
	share := DefaultTimeout
	if deadline, ok := ctx.Deadline(); ok {
		share = time.Until(deadline) / time.Duration(candidates)
	}
	if candidates == 1 {
		share = share * 9 / 10 // time to say which endpoint did not answer
	}
	asked, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	next, err := m.hopTo(asked, r, e)
	if err != nil {
		return nil, &refusal{err}
	}
	if next.offers, err = m.offersFor(r, next); err != nil {
		if elsewhere {
			err = &refusal{err}
		}
		return nil, err
	}
	// Held until the descriptors that come with the answer have been used.
	cc, release, err := m.links.use(next.url)
	if err != nil {
		return nil, &refusal{err}
	}
	defer release()
	segment := r.conn.Path.PathSegments[r.index+1].Id
	if next.node != nil {
		defer m.asks(next.url, segment)()
	}
	m.farewells.wait(asked, farewell{next.url, segment})
	before := r.record.GetRequest().GetEndpointUrl()
	opened := m.openPassed(ctx, r, cancel)
	answer, err := m.ask(asked, cc, r, next)
	wrong := opened()
	switch {
	case before == next.url: // it has the connection, as it was
	case err != nil && unheard(err):
		m.closeEndpoint(r.id, r.conn.Clone(), next.url, "") // it may have agreed
	case err == nil && wrong != nil:
		m.closeEndpoint(r.id, answer.conn, next.url, "")
	}
	switch {
	case wrong != nil:
		return nil, wrong
	case err != nil:
		return nil, &refusal{err}
	}
	m.answered(r.id, next.url)
	x, conn, err := m.compose(asked, r, next, answer)
	var data []byte
	if err == nil {
		defer m.remember(x, conn)()
		if data, err = m.Records.Begin(x); err != nil {
			err = unfit(err)
		}
	}
	if err != nil {
		m.closeEndpoint(r.id, answer.conn, next.url, x.GetEndpoint().GetMechanism().GetParameters()[paramNetns])
		return nil, &refusal{err}
	}
	out, err := m.establish(ctx, r, x, conn, data)
	if err != nil && (before != next.url || next.bridge() != "") {
		m.closeEndpoint(r.id, answer.conn, next.url, x.Endpoint.Mechanism.Parameters[paramNetns])
	}
	if err == nil && r.record != nil && before != next.url {
		m.leaveEndpoint(r.record)
	}
	return out, err
}
