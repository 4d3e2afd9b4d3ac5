package deviceplugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// issue is one token that was given out, and a line of the journal. It has the token's hash
// only: nobody claims a device by what the file holds.
type issue struct {
	Hash   string    `json:"hash"`
	Pool   string    `json:"pool,omitempty"`
	Device string    `json:"device,omitempty"` // empty: the token is void
	At     time.Time `json:"at,omitzero"`
	Used   bool      `json:"used,omitempty"` // a connection has claimed by it
}

// journal is a file of issues, one a line, the last of a hash counts. To add a line and have
// it on the disk takes a tenth of what a new file takes.
type journal struct {
	file string
	size int64 // as it was left; -1: not in a state to add to
}

// maxJournal is the size in bytes at which a journal is written anew without what is void.
const maxJournal = 4 << 20

// openJournal reads one, which need not be there. A line that a power failure has cut off
// was never promised to anyone.
func openJournal(file string) (journal, map[string]issue, error) {
	j := journal{file, -1}
	issued := map[string]issue{}
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return j, issued, nil
	} else if err != nil {
		return j, nil, err
	}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		if !bytes.HasSuffix(line, []byte("\n")) {
			return j, issued, nil
		}
		var i issue
		if err := json.Unmarshal(line, &i); err != nil || i.Hash == "" {
			return j, nil, fmt.Errorf("line %d is no token (%v)", n, err)
		}
		if issued[i.Hash] = i; i.Device == "" {
			delete(issued, i.Hash)
		}
	}
	j.size = int64(len(data))
	return j, issued, nil
}

// add has lines on the disk when it returns; all is what counts then.
func (j *journal) add(lines []issue, all map[string]issue) error {
	if j.size >= 0 && j.size < maxJournal {
		err := j.append(lines, true)
		if err == nil {
			return nil
		}
		j.size = -1
	}
	return j.rewrite(all)
}

// note adds a line that may be lost with the machine's power. If it is lost otherwise, the
// next add writes it.
func (j *journal) note(i issue) {
	if j.size >= 0 && j.append([]issue{i}, false) != nil {
		j.size = -1
	}
}

func encode(issues iter.Seq[issue]) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for i := range issues {
		if err := e.Encode(i); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

var errChanged = errors.New("somebody else has changed it")

func (j *journal) append(lines []issue, sync bool) error {
	data, err := encode(slices.Values(lines))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(j.file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil && st.Size() != j.size {
		err = errChanged
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		j.size += int64(len(data))
	}
	return err
}

// rewrite writes the file anew: in full or not at all, also when the power fails.
func (j *journal) rewrite(all map[string]issue) error {
	data, err := encode(maps.Values(all))
	if err != nil {
		return err
	}
	dir := filepath.Dir(j.file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(j.file)+".") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // unless it has been renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), j.file)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return err
	}
	j.size = int64(len(data))
	return nil
}
