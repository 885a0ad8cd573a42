package framework

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
)

// GenerateKeyPair is generateKeyPair("RSA", …) of DevicePolicyManager: a key in place of what was under the alias. The caller
// may use it at once; it has no certificate yet and cannot be exported. nil says, without a reason, that the key store made
// none. hardware stands for the chip that makes it. Source: developer.android.com, "DevicePolicyManager", generateKeyPair.
func (p *Phone) GenerateKeyPair(caller, alias string, hardware func() (*rsa.PrivateKey, error)) (crypto.Signer, error) {
	if err := first(p.needAPI(APIGenerate, "generateKeyPair"), p.needScope(caller, ScopeCertInstall), p.needUnlocked()); err != nil {
		return nil, err
	}
	if alias == "" {
		return nil, throw(IllegalArgument, "alias must not be empty")
	}
	if p.refuses() || p.StorageFull || p.DiskEncrypted && !p.DeviceSecure() {
		return nil, nil
	}
	key, err := hardware()
	if err != nil {
		return nil, err
	}
	if err := p.Work.put(alias, KeyPair{Key: key}, false, p.World.Apps[caller].UID); err != nil {
		return nil, err
	}
	return p.PrivateKey(caller, alias), nil
}

// SetKeyPairCertificate is setKeyPairCertificate: the chain for a key that was made here, leaf first. The answer is false,
// without a reason, if there is no such key, or if the certificate is another key's.
func (p *Phone) SetKeyPairCertificate(caller, alias string, chain []*x509.Certificate, selectable bool) (bool, error) {
	if err := first(p.needAPI(APIGenerate, "setKeyPairCertificate"), p.needScope(caller, ScopeCertInstall), p.needUnlocked()); err != nil {
		return false, err
	}
	k, there := p.Work.Keys[alias]
	if !there || len(chain) == 0 || p.StorageFull || p.refuses() || !Fits(signer(k.PKCS8), chain[0]) {
		return false, nil
	}
	k.Chain, k.Selectable = encoded(chain), selectable
	p.Work.Keys[alias] = k
	p.Work.KeyChanges++
	return true, nil
}
