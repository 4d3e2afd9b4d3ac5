package wireguard

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"go.patchbay.dev/models"
	"go.patchbay.dev/vppapi"
)

// secretSize of the node's secret in bytes.
const secretSize = 32

// keys derives the keys of tunnels from the node's secret: they are the same after a restart
// and stand nowhere.
type keys struct {
	file string

	mu     sync.Mutex
	secret []byte // empty: not read yet
}

// pair is a Curve25519 key pair.
type pair struct {
	private vppapi.PrivateKey
	public  [32]byte
}

// of is the pair of the end at a side of a connection's record.
func (k *keys) of(id string, side models.Side) (pair, error) {
	secret, err := k.read()
	if err != nil {
		return pair{}, fmt.Errorf("the node's WireGuard secret: %w", err)
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "patchbay wireguard "+id+" "+string(side), 32)
	if err != nil {
		return pair{}, err
	}
	private, err := ecdh.X25519().NewPrivateKey(derived)
	if err != nil {
		return pair{}, err
	}
	return pair{vppapi.PrivateKey(derived), [32]byte(private.PublicKey().Bytes())}, nil
}

// read gives the secret, which is made if there is none.
func (k *keys) read() ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.secret != nil {
		return k.secret, nil
	}
	secret, err := os.ReadFile(k.file)
	if errors.Is(err, fs.ErrNotExist) {
		secret, err = k.create()
	}
	switch {
	case err != nil:
		return nil, err
	case len(secret) != secretSize:
		return nil, fmt.Errorf("%s has %d bytes, not %d; remove it, and connections by WIREGUARD are made anew", k.file, len(secret), secretSize)
	}
	k.secret = secret
	return secret, nil
}

// create writes a new secret, whole or not at all.
func (k *keys) create() ([]byte, error) {
	secret := make([]byte, secretSize)
	rand.Read(secret) // it never fails
	if err := os.MkdirAll(filepath.Dir(k.file), 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(k.file), filepath.Base(k.file)+".*") // mode 0600
	if err != nil {
		return nil, err
	}
	_, err = f.Write(secret)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), k.file)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	return secret, nil
}
