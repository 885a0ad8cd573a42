// Package testpg gives tests a PostgreSQL: the one that WAXSEAL_TEST_POSTGRES names, or one of their own from Debian's
// programs. Every test has a fresh schema.
package testpg

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// Environment variables of the tests.
const (
	// postgresURL names a PostgreSQL server for the tests; without it one is started if its programs are there.
	postgresURL = "WAXSEAL_TEST_POSTGRES"
	// strict makes a skipped engine a failure.
	strict = "WAXSEAL_TEST_STRICT"
)

// Server is a PostgreSQL server for one test binary: the one that the environment names, or one of its own.
// Call Stop at the end of TestMain.
type Server struct {
	// Durable has a server of the tests' own flush each commit to disk, as one in production does. It costs time.
	Durable bool

	once sync.Once
	url  string
	err  error
	stop func()
	mu   sync.Mutex
	n    int
}

// Schema gives the URL of a fresh, empty schema that is dropped when the test ends. Without any server the test is
// skipped, or fails if skips are forbidden.
func (p *Server) Schema(t testing.TB) string {
	t.Helper()
	p.once.Do(p.start)
	if p.err != nil && os.Getenv(strict) == "1" {
		t.Fatalf("PostgreSQL is needed: %v; set %s", p.err, postgresURL)
	}
	if p.err != nil {
		t.Skipf("no PostgreSQL: %v; set %s", p.err, postgresURL)
	}
	p.mu.Lock()
	p.n++
	schema := fmt.Sprintf("waxseal_test_%d_%d_%d", os.Getpid(), time.Now().UnixNano(), p.n)
	p.mu.Unlock()
	p.execute(t, "CREATE SCHEMA "+schema)
	t.Cleanup(func() { p.execute(t, "DROP SCHEMA "+schema+" CASCADE") })
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatalf("%s is not a URL", postgresURL)
	}
	query := u.Query()
	query.Set("search_path", schema)
	u.RawQuery = query.Encode()
	return u.String()
}

func (p *Server) execute(t testing.TB, statement string) {
	t.Helper()
	db, err := sql.Open("pgx", p.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(context.Background(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Stop ends the server that Schema started.
func (p *Server) Stop() {
	if p.stop != nil {
		p.stop()
	}
}

func (p *Server) start() {
	if p.url = os.Getenv(postgresURL); p.url != "" {
		return
	}
	p.url, p.stop, p.err = startPostgres(p.Durable)
}

// startPostgres makes a cluster in a temporary folder and runs it on a free port of 127.0.0.1. PostgreSQL refuses to run
// as root; then it runs as the user postgres, whom Debian's package brings.
func startPostgres(durable bool) (dsn string, stop func(), err error) {
	bin, err := postgresBinaries()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "waxseal-postgres-")
	if err != nil {
		return "", nil, err
	}
	remove := func() { _ = os.RemoveAll(dir) }
	owner, err := handOver(dir)
	if err != nil {
		remove()
		return "", nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := owner.command(filepath.Join(bin, "initdb"), "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "-D", data)
	if out, err := initdb.CombinedOutput(); err != nil {
		remove()
		return "", nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	port, err := freePort()
	if err != nil {
		remove()
		return "", nil, err
	}
	dsn = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
	server := owner.command(filepath.Join(bin, "postgres"), "-D", data, "-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(port),
		"-c", "unix_socket_directories=", "-c", "fsync="+onOff(durable), "-c", "max_connections=200")
	if err := server.Start(); err != nil {
		remove()
		return "", nil, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	stop = func() {
		_ = server.Process.Signal(syscall.SIGINT) // fast shutdown
		_ = server.Wait()
		remove()
	}
	if err := waitFor(dsn); err != nil {
		stop()
		return "", nil, err
	}
	return dsn, stop, nil
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func postgresBinaries() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		path, err := exec.LookPath("postgres")
		if err != nil {
			return "", fmt.Errorf("its programs are not installed (Debian: apt-get install postgresql)")
		}
		return filepath.Dir(path), nil
	}
	return filepath.Dir(slices.Max(found)), nil
}

// runner starts programs as the user who may run PostgreSQL.
type runner struct{ credential *syscall.Credential }

func (r runner) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: r.credential}
	return c
}

// handOver gives the folder to the user postgres if this process is root.
func handOver(dir string) (runner, error) {
	if os.Getuid() != 0 {
		return runner{}, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return runner{}, fmt.Errorf("this is root, whom PostgreSQL refuses, and there is no user postgres: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return runner{}, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return runner{}, err
	}
	return runner{&syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, os.Chown(dir, int(uid), int(gid))
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// waitFor asks until the server answers.
func waitFor(dsn string) error {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = db.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL did not start: %w", err)
		}
	}
}
