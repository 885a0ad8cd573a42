package journeys

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// fetch prints status, headers and body, whatever the status is; -out FILE gets the body alone, and -identity FILE has a
// certificate and key that are shown in TLS, whichever the server asks for.
func fetch(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	f := flag.NewFlagSet("fetch", flag.ContinueOnError)
	accept := f.String("accept", "*/*", "")
	method := f.String("method", http.MethodGet, "")
	file := f.String("body", "", "")
	header := f.String("header", "", "")
	out := f.String("out", "", "")
	identity := f.String("identity", "", "")
	need(ts, f.Parse(args) == nil && f.NArg() == 1, "fetch [-accept TYPE] [-method METHOD] [-body FILE] [-header NAME:VALUE] [-identity FILE] [-out FILE] URL")
	var body []byte
	if *file != "" {
		body = []byte(ts.ReadFile(*file))
	}
	r, err := http.NewRequest(*method, f.Arg(0), bytes.NewReader(body))
	ts.Check(err)
	r.Header.Set("Accept", *accept)
	if name, value, ok := strings.Cut(*header, ":"); ok {
		r.Header.Set(name, value)
	}
	client, err := trusting(ts.Getenv("WAXCTL_CA"))
	ts.Check(err)
	if *identity != "" {
		ts.Check(show(client, ts.MkAbs(*identity)))
	}
	resp, err := client.Do(r)
	ts.Check(err)
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	ts.Check(err)
	if *out != "" {
		ts.Check(os.WriteFile(ts.MkAbs(*out), answer, 0o600))
		return
	}
	_, _ = fmt.Fprintln(ts.Stdout(), resp.Status)
	ts.Check(resp.Header.Write(ts.Stdout()))
	_, _ = fmt.Fprintf(ts.Stdout(), "\n%s\n", answer)
}

func trusting(ca string) (*http.Client, error) {
	raw, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(raw)
	return &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}, nil
}

// show lets a client show a certificate whether or not the server names its CA.
func show(client *http.Client, file string) error {
	cert, err := tls.LoadX509KeyPair(file, file)
	client.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return err
}

// proxy starts a proxy that ends TLS and hands a device's certificate on in Client-Cert (RFC 9440). PROXY is its URL and
// proxy.pem what it is trusted by. It finds the server by the file server/address.
func startProxy(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) == 0, "proxy")
	h := houseOf(ts)
	cert, err := selfSigned()
	ts.Check(err)
	ts.Check(os.WriteFile(h.path("proxy.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := &http.Server{Handler: forward(h), ReadHeaderTimeout: patience,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert}}
	go func() {
		if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			ts.Logf("the proxy ended: %v", err)
		}
	}()
	h.mu.Lock()
	h.closers = append(h.closers, server)
	h.mu.Unlock()
	ts.Setenv("PROXY", "https://"+l.Addr().String())
}

func forward(h *house) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			raw, _ := os.ReadFile(h.path("server", "address")) // without it the request fails
			if target, err := url.Parse(strings.TrimSpace(string(raw))); err == nil {
				r.SetURL(target)
			}
			r.Out.Header.Del("Client-Cert")
			if state := r.In.TLS; state != nil && len(state.PeerCertificates) > 0 {
				r.Out.Header.Set("Client-Cert", ":"+base64.StdEncoding.EncodeToString(state.PeerCertificates[0].Raw)+":")
			}
		},
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			client, err := trusting(h.path("server", "ca.pem"))
			if err != nil {
				return nil, err
			}
			return client.Transport.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
		}),
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// selfSigned makes a TLS certificate for 127.0.0.1.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Proxy"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
