package deviceplugin

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
// etcd is there or not. The file holds their hashes: nobody claims a device by it.
type Tokens struct {
	file  string
	pools []string

	mu     sync.Mutex
	issued map[string]*issue // by hash
}

// issue is one token that was given out.
type issue struct {
	Pool   string    `json:"pool"`
	Device string    `json:"device"`
	At     time.Time `json:"at"`
	Used   bool      `json:"used,omitempty"` // a connection has claimed by it
}

// resourceName is what Kubernetes takes for the name of an extended resource: a domain, not
// its own, and a name (k8s.io/kubernetes/pkg/apis/core/v1/helper).
var resourceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)

// OpenTokens reads the tokens from a file, which need not be there. Of the pools, kubelet
// gives away the devices of those whose name has a domain. An error names the file, or the
// pool that kubelet would refuse.
func OpenTokens(file string, pools []string) (*Tokens, error) {
	t := &Tokens{file: file, issued: map[string]*issue{}}
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
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return t, nil
	case err == nil:
		err = json.Unmarshal(data, &t.issued)
	}
	for _, i := range t.issued {
		if i == nil {
			err = errors.New("null instead of a token")
		}
	}
	if err != nil {
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
	i := t.issued[hash(token)]
	if i == nil {
		return "", "", errors.New("the token stands for no device of this node: it is another node's, or kubelet has given the device to another pod since")
	}
	i.Used = true // kept with the next issue: until then it makes no difference
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
	next := map[string]*issue{}
	for h, i := range t.issued {
		if !slices.Contains(ids, i.Device) || !i.Used && !t.oldest(h) {
			next[h] = i
		}
	}
	var tokens []string
	for _, id := range ids {
		token := tokenPrefix + uuid.NewString()
		next[hash(token)] = &issue{Pool: pool, Device: id, At: time.Now()}
		tokens = append(tokens, token)
	}
	if err := save(t.file, next); err != nil {
		return nil, err
	}
	t.issued = next
	return tokens, nil
}

// oldest tells whether a device has as many tokens as it may have, and this is the first.
func (t *Tokens) oldest(h string) bool {
	n := 0
	for _, i := range t.issued {
		if i.Device == t.issued[h].Device {
			if n++; i.At.Before(t.issued[h].At) {
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

// save writes a file that is there in full or not at all, also after a power failure.
func save(file string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(file)+".") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // unless it has been renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
