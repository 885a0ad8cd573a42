// Package journal is an append-only file of JSON lines that is the connector's whole state: what it was asked, before it
// acts, and what came of it. Every entry is on the disk (fsync) when Put returns, and a line that a crash cut short is
// dropped at the next start.
//
//	Put fails            nothing is kept: the file is cut back to its old length
//	crash within Put     the entry is kept whole or not at all
//	crash after Put      the entry is kept
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// maxLine bounds one entry.
const maxLine = 4 << 20

// Journal keeps of each entry its place in the file, not its content. It is safe for concurrent use by one process.
type Journal struct {
	mu    sync.Mutex
	file  *os.File
	size  int64
	index map[string]int64
}

type entry struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

// Open opens or makes the journal at path and reads it through.
func Open(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	j := &Journal{file: f, index: map[string]int64{}}
	if err := j.replay(); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("reading the journal %s: %w", path, err)
	}
	return j, nil
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
		j.index[e.Key] = j.size
		j.size += int64(len(line))
	}
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
	return j.append(key, append(line, '\n'))
}

func (j *Journal) append(key string, line []byte) error {
	_, err := j.file.WriteAt(line, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		_ = j.file.Truncate(j.size)
		return fmt.Errorf("writing to the journal: %w", err)
	}
	j.index[key] = j.size
	j.size += int64(len(line))
	return nil
}

// Get reads the last entry of a key into value; found is false if there is none.
func (j *Journal) Get(key string, value any) (found bool, err error) {
	j.mu.Lock()
	offset, found := j.index[key]
	size := j.size
	j.mu.Unlock()
	if !found {
		return false, nil
	}
	line, err := readLine(bufio.NewReader(io.NewSectionReader(j.file, offset, size-offset)))
	if err != nil {
		return false, fmt.Errorf("reading the journal: %w", err)
	}
	var e entry
	if err := json.Unmarshal(bytes.TrimSpace(line), &e); err != nil {
		return false, errors.New("reading the journal: the entry is damaged")
	}
	if err := json.Unmarshal(e.Value, value); err != nil {
		return false, fmt.Errorf("reading the journal: entry %q is of another kind: %w", key, err)
	}
	return true, nil
}

// Len is how many keys there are.
func (j *Journal) Len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.index)
}

// Close closes the file.
func (j *Journal) Close() error { return j.file.Close() }
