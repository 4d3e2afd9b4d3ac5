package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigErrorsNameTheKey(t *testing.T) {
	t.Parallel()
	certs := newCA(t, "ca").issue("127.0.0.1")
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	for name, c := range map[string]struct {
		Config
		want string
	}{
		"no directory":                {Config{}, "etcd.data_dir"},
		"relative directory":          {Config{DataDir: "data"}, "etcd.data_dir"},
		"listen without a scheme":     {Config{DataDir: data, Listen: "/run/etcd.sock"}, "etcd.listen"},
		"listen on a relative socket": {Config{DataDir: data, Listen: "unix://run/etcd.sock"}, "etcd.listen"},
		"listen on a long socket":     {Config{DataDir: data, Listen: "unix:///" + strings.Repeat("x", 107)}, "etcd.listen"},
		"listen without a port":       {Config{DataDir: data, Listen: "http://127.0.0.1", Insecure: true}, "etcd.listen"},
		"listen on a taken address":   {Config{DataDir: data, Listen: "http://203.0.113.1:2379", Insecure: true}, "etcd.listen"},
		"http, not insecure":          {Config{DataDir: data, Listen: "http://127.0.0.1:2379"}, "etcd.insecure"},
		"https without a certificate": {Config{DataDir: data, Listen: "https://127.0.0.1:2379", TLS: TLS{CA: certs.CA}}, "etcd.tls.cert"},
		"https without a CA":          {Config{DataDir: data, Listen: "https://127.0.0.1:2379", TLS: TLS{Cert: certs.Cert, Key: certs.Key}}, "etcd.tls.ca"},
		"insecure does not undo TLS":  {Config{DataDir: data, Listen: "https://127.0.0.1:2379", Insecure: true}, "etcd.tls.cert"},
		"a user of the embedded etcd": {Config{DataDir: data, Username: "u", Password: "sesame"}, "etcd.username"},
		"a certificate without a key": {Config{DataDir: data, TLS: TLS{Cert: certs.Cert}}, "etcd.tls.key"},
		"a certificate that is none":  {Config{DataDir: data, TLS: TLS{Cert: junk, Key: certs.Key}}, "etcd.tls.cert"},
		"a CA that is none":           {Config{DataDir: data, TLS: TLS{CA: junk}}, "etcd.tls.ca"},
		"a CA that is not there":      {Config{DataDir: data, TLS: TLS{CA: junk + "2"}}, "etcd.tls.ca"},
		"endpoint without a scheme":   {Config{Endpoints: []string{"10.0.0.1:2379"}}, "etcd.endpoints"},
		"endpoint with a password":    {Config{Endpoints: []string{"https://u:sesame@10.0.0.1:2379"}}, "etcd.endpoints"},
		"endpoint with a path":        {Config{Endpoints: []string{"https://10.0.0.1:2379/v3"}}, "etcd.endpoints"},
		"endpoints of two kinds":      {Config{Endpoints: []string{"https://10.0.0.1:2379", "http://10.0.0.2:2379"}}, "etcd.endpoints"},
		"http endpoints with TLS":     {Config{Endpoints: []string{"http://10.0.0.1:2379"}, TLS: certs}, "etcd.tls"},
		"a password in clear":         {Config{Endpoints: []string{"http://10.0.0.1:2379"}, Username: "u", Password: "sesame"}, "etcd.insecure"},
		"a user without a password":   {Config{Endpoints: []string{"https://10.0.0.1:2379"}, Username: "u"}, "etcd.password"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.Context(), c.Config)
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "sesame") {
				t.Errorf("error %q does not name %s, or says too much", err, c.want)
			}
		})
	}
}
