package bench_test

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// bareFolder is the environment variable that makes this test binary the bare handler.
const bareFolder = "WAXSEAL_BENCH_BARE"

// bare is what everything is compared with: a handler in a process of its own that verifies the sender, decodes the
// message if it is a PC's, and does nothing else. It ends when its standard input does.
func bare(dir string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = l.Close()
	}()
	url := []byte("https://" + l.Addr().String())
	if err := writeWhole(filepath.Join(dir, "address"), url); err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(verify), TLSConfig: &tls.Config{ClientAuth: tls.RequestClientCert}}
	return server.ServeTLS(l, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
}

// writeWhole lets nobody read a half-written file.
func writeWhole(name string, content []byte) error {
	if err := os.WriteFile(name+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

func verify(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, "body", http.StatusBadRequest)
		return
	}
	if err = proved(r, body); err == nil && strings.HasPrefix(r.Header.Get("Content-Type"), syncml.ContentType) {
		_, err = syncml.Decode(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// proved: the sender has the key of a certificate, by a signature or by TLS, or shows a credential, which is hashed as a
// server that keeps hashes must. Whose it is, nobody asks here.
func proved(r *http.Request, body []byte) error {
	if credential, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		if sum := sha256.Sum256([]byte(credential)); subtle.ConstantTimeCompare(sum[:], make([]byte, len(sum))) == 1 {
			return errors.New("the credential is nobody's")
		}
		return nil
	}
	signature := r.Header.Get("Mdm-Signature")
	if signature == "" && len(r.TLS.PeerCertificates) > 0 {
		return nil
	}
	ber, err := base64.StdEncoding.DecodeString(signature)
	if err == nil {
		_, err = cms.VerifyDetached(ber, body)
	}
	return err
}

// startBare gives the handler's process and URL.
func startBare(b *testing.B) (*exec.Cmd, string) {
	b.Helper()
	dir := b.TempDir()
	id := testpki.NewCA(b, "bare").Issue(b, testpki.Options{CN: "127.0.0.1", KeyType: testpki.P256})
	for name, pem := range map[string][]byte{"cert.pem": id.CertPEM(), "key.pem": id.KeyPEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), pem, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	program, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), bareFolder+"="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait() // closing the listener is its only way to end
	})
	return cmd, waitForAddress(b, filepath.Join(dir, "address"))
}
