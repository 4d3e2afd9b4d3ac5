package deviceplugin

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// A token has the form that Network Service Mesh's clients and endpoints know one by
// (sdk-sriov, pkg/tools/tokens).
const (
	tokenPrefix = "sriov-"
	tokenLength = len(tokenPrefix) + 36 // a UUID in text (RFC 9562, section 4)
)

// maxTokens is how many a device has at most: each container of the pod that it is given
// to may have its own.
const maxTokens = 16

// Tokens are what kubelet has given away and not given anew: which token stands for which
// device. They are kept in a file, so that an agent that starts again knows them, whether
// etcd is there or not.
type Tokens struct {
	pools []string

	mu     sync.Mutex
	log    journal
	issued map[string]issue // by hash
}

// resourceName is what Kubernetes takes for the name of an extended resource: a domain, not
// its own, and a name (k8s.io/kubernetes/pkg/apis/core/v1/helper).
var resourceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)

// OpenTokens reads the tokens from a file, which need not be there. Of the pools, kubelet
// gives away the devices of those whose name has a domain. An error names the file, or the
// pool that kubelet would refuse.
func OpenTokens(file string, pools []string) (*Tokens, error) {
	t := &Tokens{}
	for _, p := range pools {
		domain, _, ok := strings.Cut(p, "/")
		switch {
		case !ok:
			continue
		case !resourceName.MatchString(p):
			return nil, fmt.Errorf("sriov.pools: name %q: kubelet takes a domain and a name, like sriov.example.com/radio", p)
		case domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io"):
			return nil, fmt.Errorf("sriov.pools: name %q: the domain is Kubernetes's own; use one of yours", p)
		}
		t.pools = append(t.pools, p)
	}
	var err error
	if t.log, t.issued, err = openJournal(file); err != nil {
		return nil, fmt.Errorf("sriov.tokens: %s: %w; remove it, and the pods that have devices and no connection yet", file, err)
	}
	return t, nil
}

// Counts tells whether kubelet gives a pool's devices away: then they are claimed by token
// only.
func (t *Tokens) Counts(pool string) bool { return slices.Contains(t.pools, pool) }

// Device is the device that a token stands for. The error says why it stands for none; it
// does not repeat the token.
func (t *Tokens) Device(token string) (pool, id string, err error) {
	if len(token) != tokenLength {
		return "", "", fmt.Errorf("the token has %d bytes, not %d; take the one in the container's environment", len(token), tokenLength)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i, ok := t.issued[hash(token)]
	if !ok {
		return "", "", errors.New("the token stands for no device of this node: it is another node's, or kubelet has given the device to another pod since")
	}
	if !i.Used {
		i.Used = true
		t.issued[i.Hash] = i
		t.log.note(i)
	}
	return i.Pool, i.Device, nil
}

// Given is when kubelet last gave a device to a container; zero: never.
func (t *Tokens) Given(id string) (at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, i := range t.issued {
		if i.Device == id && i.At.After(at) {
			at = i.At
		}
	}
	return at
}

// issue makes a token for each device. Those that were used for the same device are void
// then: kubelet gives it to another pod. Those that were not may be other containers' of the
// same pod, whose devices kubelet gives out one after the other before any is started.
func (t *Tokens) issue(pool string, ids []string) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []issue
	next := maps.Clone(t.issued)
	for h, i := range t.issued {
		if slices.Contains(ids, i.Device) && (i.Used || t.oldest(i)) {
			delete(next, h)
			lines = append(lines, issue{Hash: h})
		}
	}
	var tokens []string
	for _, id := range ids {
		token := tokenPrefix + uuid.NewString()
		i := issue{Hash: hash(token), Pool: pool, Device: id, At: time.Now()}
		next[i.Hash] = i
		lines, tokens = append(lines, i), append(tokens, token)
	}
	if err := t.log.add(lines, next); err != nil {
		return nil, err
	}
	t.issued = next
	return tokens, nil
}

// oldest tells whether a device has as many tokens as it may have, and this is the first.
func (t *Tokens) oldest(first issue) bool {
	n := 0
	for _, i := range t.issued {
		if i.Device == first.Device {
			if n++; i.At.Before(first.At) {
				return false
			}
		}
	}
	return n >= maxTokens
}

func hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
