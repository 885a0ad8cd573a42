// Package journal is an append-only file of JSON lines that is the connector's whole state: what it was asked, before it
// acts, and what came of it. Every entry is on the disk (fsync) when Put returns, and a line that a crash cut short is
// dropped at the next start.
//
//	Put fails            nothing is kept: the file is cut back to its old length
//	crash within Put     the entry is kept whole or not at all
//	crash after Put      the entry is kept
//
// What a later entry of the same key replaced is taken out of the file by Compact, which Open calls when there is
// something to take out and Put when it is more than what counts:
//
//	crash within Compact   the old file or the new one is there, whole; both say the same
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

const (
	// maxLine bounds one entry.
	maxLine = 4 << 20
	// minDead is how much must be out of date before Put rewrites the file.
	minDead = 1 << 20
	// compactSuffix names the file that Compact writes.
	compactSuffix = ".new"
)

// Journal keeps of each entry its place in the file, not its content. It is safe for concurrent use by one process.
type Journal struct {
	mu     sync.Mutex
	path   string
	file   *os.File
	size   int64
	dead   int64 // bytes of entries that later ones replaced
	index  map[string]span
	broken error // the file could not be brought back to a known state
}

// span is the place of an entry.
type span struct{ at, length int64 }

type entry struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

// Open opens or makes the journal at path, reads it through and takes out what is out of date.
func Open(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	j := &Journal{path: path, file: f, index: map[string]span{}}
	if err := j.start(); err != nil {
		_ = j.file.Close()
		return nil, fmt.Errorf("reading the journal %s: %w", path, err)
	}
	return j, nil
}

// start also makes the file's own name durable: fsync of a new file does not.
func (j *Journal) start() error {
	if err := j.replay(); err != nil {
		return err
	}
	if err := os.Remove(j.path + compactSuffix); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := syncDir(filepath.Dir(j.path)); err != nil {
		return err
	}
	if j.dead == 0 {
		return nil
	}
	return j.compact()
}

// replay fills the index and cuts a torn last line off.
func (j *Journal) replay() error {
	r := bufio.NewReaderSize(j.file, 64<<10)
	for number := 1; ; number++ {
		line, err := readLine(r)
		if err == io.EOF {
			return j.file.Truncate(j.size)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("line %d is damaged: it is not an entry that this program wrote", number)
		}
		j.note(e.Key, int64(len(line)))
	}
}

// note takes an entry at the end of the file into the index.
func (j *Journal) note(key string, length int64) {
	j.dead += j.index[key].length
	j.index[key] = span{at: j.size, length: length}
	j.size += length
}

// readLine gives the next whole line with its newline; a line without one is the end.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > maxLine:
			return nil, fmt.Errorf("longer than %d bytes", maxLine)
		}
	}
}

// Put appends an entry; the last one of a key counts. It is durable on return.
func (j *Journal) Put(key string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("writing to the journal: %w", err)
	}
	line, err := json.Marshal(entry{Key: key, Value: raw})
	if err != nil {
		return fmt.Errorf("writing to the journal: %w", err)
	}
	if len(line) >= maxLine {
		return fmt.Errorf("writing to the journal: the entry is longer than %d bytes", maxLine)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.append(key, append(line, '\n')); err != nil {
		return err
	}
	if j.dead > max(minDead, j.size-j.dead) {
		_ = j.compact() // the entry is kept all the same, and the next Put tries again
	}
	return nil
}

func (j *Journal) append(key string, line []byte) error {
	if j.broken != nil {
		return fmt.Errorf("writing to the journal: an earlier fault left it in doubt, restart the connector: %w", j.broken)
	}
	_, err := j.file.WriteAt(line, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		// Half a line behind the end would swallow the next one.
		j.broken = j.file.Truncate(j.size)
		return fmt.Errorf("writing to the journal: %w", err)
	}
	j.note(key, int64(len(line)))
	return nil
}

// Compact takes out of the file what later entries replaced. On an error the journal is as it was.
func (j *Journal) Compact() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.dead == 0 {
		return nil
	}
	return j.compact()
}

func (j *Journal) compact() error {
	fresh := &Journal{path: j.path + compactSuffix, index: map[string]span{}}
	var err error
	if fresh.file, err = os.OpenFile(fresh.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return fmt.Errorf("compacting the journal: %w", err)
	}
	if err = j.copyTo(fresh); err == nil {
		err = os.Rename(fresh.path, j.path)
	}
	if err != nil {
		_ = fresh.file.Close()
		_ = os.Remove(fresh.path)
		return fmt.Errorf("compacting the journal: %w", err)
	}
	_ = j.file.Close() // it has no name any more, and what counts of it is in the new one
	j.file, j.size, j.dead, j.index = fresh.file, fresh.size, 0, fresh.index
	return syncDir(filepath.Dir(j.path))
}

// copyTo writes what counts, in the order in which it was written, and returns when it is on the disk.
func (j *Journal) copyTo(fresh *Journal) error {
	keys := slices.SortedFunc(maps.Keys(j.index), func(a, b string) int { return int(j.index[a].at - j.index[b].at) })
	w := bufio.NewWriterSize(fresh.file, 64<<10)
	for _, key := range keys {
		at := j.index[key]
		if _, err := io.Copy(w, io.NewSectionReader(j.file, at.at, at.length)); err != nil {
			return err
		}
		fresh.note(key, at.length)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return fresh.file.Sync()
}

// syncDir makes a file's name durable. Not every system can sync a folder; there the name alone must do.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Get reads the last entry of a key into value; found is false if there is none.
func (j *Journal) Get(key string, value any) (found bool, err error) {
	line, err := j.line(key)
	if line == nil || err != nil {
		return false, err
	}
	var e entry
	if err := json.Unmarshal(line, &e); err != nil {
		return false, errors.New("reading the journal: the entry is damaged")
	}
	if err := json.Unmarshal(e.Value, value); err != nil {
		return false, fmt.Errorf("reading the journal: entry %q is of another kind: %w", key, err)
	}
	return true, nil
}

// line gives the bytes of an entry, nil if there is none. The lock keeps Compact from taking the file away.
func (j *Journal) line(key string) ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	at, found := j.index[key]
	if !found {
		return nil, nil
	}
	line := make([]byte, at.length)
	if _, err := j.file.ReadAt(line, at.at); err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	return bytes.TrimSpace(line), nil
}

// Keys are the keys that begin with prefix, sorted.
func (j *Journal) Keys(prefix string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for key := range j.index {
		if strings.HasPrefix(key, prefix) {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

// Len is how many keys there are.
func (j *Journal) Len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.index)
}

// Close closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.Close()
}
