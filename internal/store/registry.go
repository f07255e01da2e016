package store

// RegistryChannel is where a change of the registry is told to those who listen. Payloads are empty: it
// is only a hint to ask.
const RegistryChannel = "fanfare_registry"
