CREATE SOURCE s WITH (path = 'x');
