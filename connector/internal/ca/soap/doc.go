// Package soap writes and reads SOAP messages for the adapters of CAs that speak it: 1.2 with WS-Addressing as Microsoft's
// services do, and 1.1 as the older ones. What is read is found by local names, bounded, and never trusted.
package soap
