package store

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"
)

// helperMode, set in the environment, makes the test binary a process of its own to be
// killed or measured.
const helperMode = "STORE_TEST_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperMode) {
	case "":
		os.Exit(m.Run())
	case "churn":
		churn(os.Getenv("STORE_TEST_DIR"))
	case "leased":
		leased(os.Getenv("STORE_TEST_DIR"))
	case "idle":
		idle(os.Getenv("STORE_TEST_DIR"))
	}
}

// helper is this binary in another mode on dir.
func helper(t testing.TB, mode, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), helperMode+"="+mode, "STORE_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

// churn writes one key after another and prints each once it is acknowledged, until it is
// killed.
func churn(dir string) {
	s, err := Open(context.Background(), Config{DataDir: dir + "/data", Listen: "unix://" + dir + "/etcd.sock"})
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		key := fmt.Sprintf("/churn/%d", i%50)
		if _, err := s.Put(context.Background(), key, fmt.Append(nil, i)); err != nil {
			fmt.Println("put:", err)
			os.Exit(1)
		}
		fmt.Println(key, i)
	}
}

// leased has keys that will expire, which makes etcd write, more often than it writes a snapshot
// of its log, and waits for the end.
func leased(dir string) {
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	s, err := Open(context.Background(), Config{DataDir: dir + "/data", Log: log})
	if err == nil {
		_, err = s.Put(context.Background(), "/a", []byte("kept"))
	}
	for i := 0; i < snapshotCount+100 && err == nil; i++ {
		_, err = s.PutLeased(context.Background(), fmt.Sprint("/leased/", i), nil, 3*time.Second)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

// idle has 1,000 keys, with a watch, and does nothing until its input ends.
func idle(dir string) {
	s, err := Open(context.Background(), Config{DataDir: dir + "/data", Listen: "unix://" + dir + "/etcd.sock"})
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	for i := range 1000 {
		if _, err := s.Put(context.Background(), fmt.Sprintf("/idle/%d", i), make([]byte, 1000)); err != nil {
			fmt.Println("put:", err)
			os.Exit(1)
		}
	}
	go s.Watch(context.Background(), "/idle/", func(Batch) {})
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	s.Close()
}
