#!/usr/bin/env bash
# Makes the real inputs of this folder with OpenSSL and NSS: PFX files as people have them, and mail encrypted to each.
# The results are committed; run this only to make them anew (openssl 3, libnss3-tools).
set -euo pipefail
cd "$(dirname "$0")"
rm -rf pfx mail pki && mkdir pfx mail pki
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# OpenSSL 3.0 backdates certificates only by `openssl ca`.
cat > "$work/ca.cnf" <<CNF
[ca]
default_ca = old
[old]
dir = $work
database = $work/index
serial = $work/serial
new_certs_dir = $work
default_md = sha256
policy = any
unique_subject = no
copy_extensions = none
[any]
commonName = optional
organizationName = optional
emailAddress = optional
[req]
distinguished_name = dn
prompt = no
[dn]
CN = unused
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[encryption]
basicConstraints = CA:FALSE
keyUsage = critical, keyEncipherment
extendedKeyUsage = emailProtection
subjectAltName = \${ENV::SAN}
[agreement]
basicConstraints = CA:FALSE
keyUsage = critical, keyAgreement
extendedKeyUsage = emailProtection
subjectAltName = \${ENV::SAN}
[dual]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = emailProtection
subjectAltName = \${ENV::SAN}
[signing]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = emailProtection
subjectAltName = \${ENV::SAN}
[nomail]
basicConstraints = CA:FALSE
keyUsage = critical, keyEncipherment
extendedKeyUsage = emailProtection
CNF
: > "$work/index"
echo 1000 > "$work/serial"
export SAN=email:nobody@corp.test

rsa() { openssl genrsa -out "$work/$1.key" 2048 2>/dev/null; }
ec() { openssl ecparam -name prime256v1 -genkey -noout -out "$work/$1.key"; }
# issue NAME SUBJECT EXTENSIONS START END
issue() {
  openssl req -new -key "$work/$1.key" -subj "$2" -config "$work/ca.cnf" -out "$work/$1.csr"
  openssl ca -batch -config "$work/ca.cnf" -cert "$work/ca.pem" -keyfile "$work/ca.key" -in "$work/$1.csr" \
    -extensions "$3" -startdate "$4" -enddate "$5" -notext -out "$work/$1.pem" 2>/dev/null
}

rsa ca
openssl req -new -key "$work/ca.key" -subj "/O=Old Corp/CN=Old Corp Mail CA" -config "$work/ca.cnf" -out "$work/ca.csr"
openssl ca -batch -selfsign -config "$work/ca.cnf" -keyfile "$work/ca.key" -in "$work/ca.csr" -extensions root \
  -startdate 20150101000000Z -enddate 20491231000000Z -notext -out "$work/ca.pem" 2>/dev/null
cp "$work/ca.pem" pki/old-corp-ca.pem

alice() { SAN=email:alice@corp.test issue "$1" "/O=Old Corp/CN=Alice Example" "$2" "$3" "$4"; }
for n in alice-2016 alice-2019 alice-2024 alice-next alice-dual alice-signing bob-2024 eve former nomail other; do rsa $n; done
ec alice-ec
alice alice-2016 encryption 20160601000000Z 20190601000000Z
alice alice-2019 encryption 20190601000000Z 20240601000000Z
alice alice-2024 encryption 20240601000000Z 20390601000000Z
alice alice-next encryption 20260601000000Z 20400601000000Z
alice alice-dual dual 20170101000000Z 20180101000000Z
alice alice-signing signing 20240601000000Z 20390601000000Z
alice alice-ec agreement 20200101000000Z 20220101000000Z
SAN=email:bob@corp.test issue bob-2024 "/O=Old Corp/CN=Bob Example" encryption 20240601000000Z 20390601000000Z
SAN=email:eve@corp.test issue eve "/O=Old Corp/CN=Eve Example" encryption 20240601000000Z 20390601000000Z
SAN=email:alice@old-name.test issue former "/O=Old Corp/CN=Alice Maiden" encryption 20160101000000Z 20180101000000Z
issue nomail "/O=Old Corp/CN=No Mail" nomail 20240601000000Z 20390601000000Z

# export FILE NAME PASSWORD OPTIONS…
export_pfx() {
  local file=$1 name=$2 password=$3; shift 3
  openssl pkcs12 -export -out "pfx/$file.pfx" -inkey "$work/$name.key" -in "$work/$name.pem" \
    -certfile "$work/ca.pem" -name "$name" -passout "pass:$password" "$@"
  printf '%s\n' "$password" > "pfx/$file.password"
}
export_pfx alice-2016 alice-2016 'summer of 2016' -legacy                 # RC2-40 certificates, 3DES key, SHA-1 MAC
export_pfx alice-2019 alice-2019 'correct horse' -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1
export_pfx alice-2024 alice-2024 'battery staple'                          # AES-256, PBKDF2, SHA-256
export_pfx alice-next alice-next 'next one'
export_pfx alice-dual alice-dual 'Grüße' -keypbe AES-128-CBC -certpbe AES-128-CBC
export_pfx alice-signing alice-signing 'sign here'
export_pfx alice-ec alice-ec 'curves'
export_pfx alice-empty-password alice-2019 ''
export_pfx alice-former former 'maiden name'
export_pfx bob-2024 bob-2024 'bob bob'
export_pfx eve eve 'eve eve'
export_pfx bad-no-address nomail 'nomail'
openssl pkcs12 -export -nokeys -out pfx/bad-no-key.pfx -in "$work/alice-2019.pem" -passout 'pass:no key'
echo 'no key' > pfx/bad-no-key.password
openssl pkcs12 -export -out pfx/bad-rc4.pfx -inkey "$work/alice-2019.key" -in "$work/alice-2019.pem" \
  -legacy -keypbe PBE-SHA1-RC4-128 -certpbe PBE-SHA1-RC4-128 -passout 'pass:rc4'
echo rc4 > pfx/bad-rc4.password

# A file whose key is another one: the certificate bag of one file, the key bag of another, under one localKeyID.
python3 "$(pwd)/mismatch.py" "$work/other.key" "$work/alice-2019.pem" pfx/bad-mismatch.pfx mismatch
echo mismatch > pfx/bad-mismatch.password

# NSS writes BER, and gives all certificates of one subject one nickname: this file has two keys.
mkdir "$work/nss"
certutil -N -d "sql:$work/nss" --empty-password
certutil -A -d "sql:$work/nss" -n ca -t ,C, -i "$work/ca.pem"
for n in alice-2016 alice-2019; do
  pk12util -i "pfx/$n.pfx" -d "sql:$work/nss" -W "$(cat "pfx/$n.password")" >/dev/null
done
pk12util -o pfx/alice-nss.pfx -d "sql:$work/nss" -n alice-2016 -W 'from nss' >/dev/null
echo 'from nss' > pfx/alice-nss.password

# Mail as it lay in the mailbox.
mail() {
  local file=$1 to=$2 date=$3 subject=$4 text=$5; shift 5
  printf 'Content-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n' "$text" > "mail/$file.txt"
  { printf 'From: Bob Example <bob@corp.test>\r\nTo: %s\r\nDate: %s\r\nSubject: %s\r\nMessage-ID: <%s@corp.test>\r\n' "$to" "$date" "$subject" "$file"
    openssl cms -encrypt -in "mail/$file.txt" -binary "$@" | sed 's/\r$//; s/$/\r/'
  } > "mail/$file.eml"
}
a='Alice Example <alice@corp.test>'
mail 2017-offer "$a" 'Tue, 14 Mar 2017 09:12:00 +0100' 'The offer' 'The offer stands until Friday. Bob' -des3 "$work/alice-2016.pem"
mail 2021-plan "$a" 'Mon, 08 Nov 2021 16:40:00 +0100' 'The plan' 'The plan has three steps, and this is the second. Bob' -aes128 "$work/alice-2019.pem"
mail 2026-news "$a" 'Fri, 06 Nov 2026 08:00:00 +0100' 'News' 'News of this autumn. Bob' -aes256 "$work/alice-2024.pem"
mail 2017-both "$a" 'Mon, 10 Apr 2017 10:00:00 +0200' 'For both' 'For both of us. Bob' -des3 "$work/bob-2024.pem" "$work/alice-2016.pem"
mail 2026-next "$a" 'Tue, 24 Nov 2026 08:00:00 +0100' 'The next key' 'Sealed to the next key. Bob' -aes256 "$work/alice-next.pem"
mail 2024-bob 'Bob Example <bob@corp.test>' 'Wed, 04 Sep 2024 08:00:00 +0200' 'For Bob' 'Only Bob reads this.' -aes256 "$work/bob-2024.pem"
cp "$work/bob-2024.pem" pki/bob-2024.pem
for n in alice-2016 alice-2019 alice-2024 alice-next; do cp "$work/$n.pem" pki/; done
