package leak

import (
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // reads the server's database as anybody with the file would
)

// scanFolder searches every file; what skip names is left out.
func (s *scanner) scanFolder(t testing.TB, label, dir string, skip ...string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		for _, name := range skip {
			if rel == name {
				return nil
			}
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		s.scan(label+"/"+filepath.ToSlash(rel), data)
		return nil
	})
	if err != nil || files == 0 {
		t.Fatalf("searching %s: %d files, %v", label, files, err)
	}
}

// scanDatabase searches every field of every row: in the file itself a long value lies in pieces, on several pages.
func (s *scanner) scanDatabase(t testing.TB, path string) (rows map[string]int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(5000)&_pragma=query_only(1)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rows = map[string]int{}
	for _, table := range tableNames(t, db) {
		rows[table] = s.scanTable(t, db, "table "+table)
	}
	if len(rows) == 0 {
		t.Fatalf("%s has no table: it is not the server's database", path)
	}
	return rows
}

func tableNames(t testing.TB, db *sql.DB) []string {
	t.Helper()
	rows, err := db.Query("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		out = append(out, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// scanTable searches the table at the end of a label.
func (s *scanner) scanTable(t testing.TB, db *sql.DB, label string) (count int) {
	t.Helper()
	table := label[strings.LastIndexByte(label, ' ')+1:]
	rows, err := db.Query(`SELECT * FROM "` + table + `"`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for ; rows.Next(); count++ {
		values, into := make([]sql.RawBytes, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			s.scan(fmt.Sprintf("%s, row %d, %s", label, count+1, columns[i]), v)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return count
}
