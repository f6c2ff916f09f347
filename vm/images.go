package vm

import (
	"container/list"
	"sync"
)

// loadedImages is how many images an engine keeps besides the one it booted, of
// some 2 MB each.
const loadedImages = 8

// imageKey: two engines could have images of the same bytes.
type imageKey struct {
	module *module
	digest Digest
}

func keyOfImage(i *Image) imageKey { return imageKey{i.module, i.digest} }

// images are those that an engine has: the one it booted for good, and the most
// others that were used last. It is safe for concurrent use.
type images struct {
	mu    sync.Mutex
	base  *Image
	most  int
	order list.List // of *Image, but for base; the one used last is in front
	byKey map[imageKey]*list.Element
}

// get returns the image under key, or nil.
func (c *images) get(key imageKey) *Image {
	c.mu.Lock()
	defer c.mu.Unlock()
	if key == keyOfImage(c.base) {
		return c.base
	}
	found := c.byKey[key]
	if found == nil {
		return nil
	}
	c.order.MoveToFront(found)
	return found.Value.(*Image)
}

// put keeps an image that get did not return, and returns it, or the one that was
// kept meanwhile, and the one that there is no more room for, if any.
func (c *images) put(i *Image) (kept, dropped *Image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := keyOfImage(i)
	if first := c.byKey[key]; first != nil {
		return first.Value.(*Image), nil
	}
	if c.byKey == nil {
		c.byKey = map[imageKey]*list.Element{}
	}
	c.byKey[key] = c.order.PushFront(i)
	if c.order.Len() <= c.most {
		return i, nil
	}
	dropped = c.order.Remove(c.order.Back()).(*Image)
	delete(c.byKey, keyOfImage(dropped))
	return i, dropped
}

// has reports whether an image is kept: the very one, and not one that was loaded
// again after it was dropped.
func (c *images) has(i *Image) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i == c.base {
		return true
	}
	found := c.byKey[keyOfImage(i)]
	return found != nil && found.Value == any(i)
}
