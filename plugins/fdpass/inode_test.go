package fdpass

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestURLIsWhatStatSays(t *testing.T) {
	for _, path := range []string{"/proc/self/ns/net", "/", "/dev/null", "/proc/self/exe", "/sys"} {
		for how, flags := range map[string]int{"read": os.O_RDONLY, "O_PATH": unix.O_PATH} {
			f, err := os.OpenFile(path, flags, 0)
			must(t, err)
			defer f.Close()
			got, err := URL(f)
			must(t, err)
			st, err := os.Stat(path)
			must(t, err)
			sys := st.Sys().(*syscall.Stat_t)
			if want := fmt.Sprintf("inode://%d/%d", sys.Dev, sys.Ino); got != want {
				t.Errorf("%s opened for %s: %s, want %s", path, how, got, want)
			}
		}
	}
	f, err := os.Open("/")
	must(t, err)
	must(t, f.Close())
	if url, err := URL(f); err == nil {
		t.Errorf("a closed file: %s, want an error", url)
	}
}

func TestParseURL(t *testing.T) {
	for s, want := range map[string]inode{
		"inode://4/4026531840":           {4, 4026531840},
		"inode://0/0":                    {0, 0},
		"inode://18446744073709551615/1": {1<<64 - 1, 1},
		"inode://4":                      {},
		"inode://4/":                     {},
		"inode:///4":                     {},
		"inode://4/5/6":                  {},
		"inode://-4/5":                   {},
		"inode://+4/5":                   {},
		"inode://4/0x5":                  {},
		"inode://18446744073709551616/1": {},
		"inode://4/5?cookie=1":           {},
		" inode://4/5":                   {},
		"file:///proc/self/ns/net":       {},
		"4/5":                            {},
		"":                               {},
		"inode://" + string(make([]byte, 1<<16)) + "/5": {},
	} {
		dev, ino, err := ParseURL(s)
		if got := (inode{dev, ino}); got != want || (err == nil) != (want != inode{} || s == "inode://0/0") {
			t.Errorf("%.100q: %v, %v; want %v", s, got, err, want)
		}
	}
}
