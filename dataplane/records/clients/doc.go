// Package clients keeps the people cared for: who they are, where they are placed,
// whom to call, what they must not be given and who looks after them.
//
// It owns which fields are sealed and which have a blind index, and the rules of
// placement. It trusts the door for who acts and for the cipher. What a person is
// called or said is phi.Text from the request to the response, in no log, error or
// audit detail, and nothing is ever deleted.
package clients
