// Package leak proves custody: it plays the story on the real programs and a device of each platform, with everything that
// passes through the server recorded, and searches the server's folder, database, logs, memory and traffic for private keys,
// passwords, PKCS#12 files, and for tokens and credentials outside their way. Planted leaks show that the search finds what
// it looks for. All of it is in the tests.
package leak
