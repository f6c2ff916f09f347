package vm

import (
	"container/list"
	"crypto/sha256"
	"slices"
	"sync"
)

// loaded is a VM in which a task's code is compiled and nothing of it has run:
// the same for every run of that task, so it is made once and kept, as what its
// memory has that the image has not. Restoring it takes microseconds, compiling
// takes hundreds; the engine's bytecode would have to be read again each time.
type loaded struct {
	delta delta
	body  uint64 // what Start is called with; see load
}

// loadedKey is the code and, since stack traces say it, the name.
type loadedKey struct {
	name string
	code Digest
}

func keyOf(p StartParams) loadedKey { return loadedKey{p.Name, sha256.Sum256([]byte(p.Code))} }

// loadedCache keeps the ones used last, up to most bytes. It is safe for
// concurrent use.
type loadedCache struct {
	mu    sync.Mutex
	most  int
	size  int
	order list.List // of *loadedEntry; the one used last is in front
	byKey map[loadedKey]*list.Element
}

type loadedEntry struct {
	key  loadedKey
	code *loaded
}

func (l *loaded) size() int { return len(l.delta.words) + len(l.delta.runs)*8 + 256 }

func (c *loadedCache) get(key loadedKey) *loaded {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.byKey[key]
	if found == nil {
		return nil
	}
	c.order.MoveToFront(found)
	return found.Value.(*loadedEntry).code
}

func (c *loadedCache) put(key loadedKey, l *loaded) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[key] != nil || l.size() > c.most/8 {
		return
	}
	if c.byKey == nil {
		c.byKey = map[loadedKey]*list.Element{}
	}
	c.byKey[key] = c.order.PushFront(&loadedEntry{key, l})
	for c.size += l.size(); c.size > c.most; {
		last := c.order.Remove(c.order.Back()).(*loadedEntry)
		delete(c.byKey, last.key)
		c.size -= last.code.size()
	}
}

// loaded keeps what the sandbox's memory has that its image has not.
func (s *sandbox) loaded(body uint64) (*loaded, error) {
	memory, _ := s.memory.Read(0, s.memory.Size())
	runs := differences(nil, s.image, nil, memory)
	d, err := parseDelta(appendDelta(nil, s.image, memory, runs, state{}), s.image, uint64(len(memory)), nil)
	if err != nil {
		return nil, err
	}
	d.runs, d.words = slices.Clip(d.runs), slices.Clone(d.words)
	return &loaded{d, body}, nil
}
