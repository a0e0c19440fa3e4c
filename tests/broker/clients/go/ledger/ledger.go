// Package ledger keeps a line for every message that somebody answers for: its partition, its offset and its value.
// What was acknowledged and what was received can then be compared line by line.
package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Entry is one message.
type Entry struct {
	Partition int32
	Offset    int64
	Value     string
}

// Writer writes entries to a file, or nowhere. Each is there at once, for whoever watches the file.
type Writer struct {
	mutex sync.Mutex
	file  *os.File
	err   error
}

// Create begins a ledger; without a path nothing is kept.
func Create(path string) (*Writer, error) {
	if path == "" {
		return &Writer{}, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &Writer{file: file}, nil
}

// Add writes an entry.
func (w *Writer) Add(entry Entry) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.file != nil && w.err == nil {
		_, w.err = fmt.Fprintln(w.file, entry.Partition, entry.Offset, entry.Value)
	}
}

// Close ends the ledger; an error of any write before shows here.
func (w *Writer) Close() error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.file == nil {
		return nil
	}
	return errors.Join(w.err, w.file.Close())
}

// Read gives all entries of a file.
func Read(path string) ([]Entry, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var entries []Entry
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		words := strings.SplitN(lines.Text(), " ", 3)
		if len(words) != 3 {
			return nil, fmt.Errorf("%s: no entry: %q", path, lines.Text())
		}
		partition, err := strconv.ParseInt(words[0], 10, 32)
		if err != nil {
			return nil, err
		}
		offset, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil {
			return nil, err
		}
		entries = append(entries, Entry{int32(partition), offset, words[2]})
	}
	return entries, lines.Err()
}

// Number is which message of its producer a value is: its second word.
func Number(value string) (int, error) {
	words := strings.SplitN(value, " ", 3)
	if len(words) < 2 {
		return 0, fmt.Errorf("no number in %q", value)
	}
	return strconv.Atoi(words[1])
}
