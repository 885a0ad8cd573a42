package leak

import (
	"database/sql"
	"net/http"
	"sync"
)

// snapshot is a copy of the database, as a backup makes it, at the moment when a key is on its way to a device.
type snapshot struct {
	label string
	holds map[string]string // what must be in it, and the query that counts it
	path  string
	once  sync.Once
	err   error
}

// watch takes the snapshot at the first answer that shows something.
func (h *house) watch(label string, holds map[string]string, shows func(r *http.Request, body []byte) bool) *snapshot {
	shot := &snapshot{label: label, holds: holds, path: h.path(label + ".db")}
	h.proxy.setAlter(func(r *http.Request, status int, body []byte) (int, []byte) {
		if shows(r, body) {
			shot.once.Do(func() { shot.err = copyDatabase(h.path("server", "waxseal.db"), shot.path) })
		}
		return status, body
	})
	return shot
}

func copyDatabase(from, to string) error {
	db, err := sql.Open("sqlite", "file:"+from+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.Exec("VACUUM INTO $1", to)
	return err
}

// searchSnapshot searches the copy. What lies there opens nothing: neither what a session waits for, nor a payload.
func (h *house) searchSnapshot(shot *snapshot, s *scanner) {
	h.t.Helper()
	if shot.err != nil {
		h.t.Fatalf("%s: copying the database: %v", shot.label, shot.err)
	}
	db, err := sql.Open("sqlite", "file:"+shot.path+"?mode=ro")
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for what, query := range shot.holds {
		var n int
		if err := db.QueryRow(query).Scan(&n); err != nil || n == 0 {
			h.t.Errorf("the snapshot %s has no row with %s (%v): nothing was searched there", shot.label, what, err)
		}
	}
	for _, table := range tableNames(h.t, db) {
		s.scanTable(h.t, db, shot.label+": table "+table)
	}
}
