package keys

// Derive returns the keys that follow from a project's JWT secret: the tokens of
// the roles anon and service_role, with the claims that the Supabase CLI gives
// them. The opaque keys follow from nothing.
func Derive(jwtSecret string) (Set, error) {
	set := Set{JWTSecret: jwtSecret}
	for role, key := range map[string]*string{RoleAnon: &set.AnonKey, RoleService: &set.ServiceRoleKey} {
		var err error
		if *key, err = sign(jwtSecret, &localClaims{Issuer: localIssuer, Role: role, Expiry: localExpiry}); err != nil {
			return Set{}, err
		}
	}
	return set, nil
}
