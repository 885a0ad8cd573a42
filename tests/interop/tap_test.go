package interop

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
)

// tap keeps what passes the proxy under a path, both ways.
type tap struct {
	next   http.Handler
	prefix string

	mu        sync.Mutex
	exchanges []exchange
}

// tap listens from now on.
func (p *proxy) tap(prefix string) *tap {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := &tap{next: p.next, prefix: prefix}
	p.next = out
	return out
}

func (l *tap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, l.prefix) {
		l.next.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "", http.StatusBadRequest) // the device went away
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	copied := &copied{ResponseWriter: w, status: http.StatusOK}
	l.next.ServeHTTP(copied, r)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.exchanges = append(l.exchanges, exchange{r.URL.Path, r.Header.Clone(), body, copied.body.Bytes(), copied.status, w.Header().Get("Content-Type")})
}

// taken are the exchanges so far.
func (l *tap) taken() []exchange {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]exchange(nil), l.exchanges...)
}

// copied is an answer that is kept while it is written.
type copied struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (c *copied) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *copied) Write(data []byte) (int, error) {
	c.body.Write(data)
	return c.ResponseWriter.Write(data)
}
